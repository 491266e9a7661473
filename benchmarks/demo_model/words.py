"""Word lists and made-up words that the skills draw from."""

from __future__ import annotations

from benchmarks.demo_model.draw import Draw


def listed(text: str, separator: str | None = None) -> list[str]:
    """The words of `text`, or (with the line ends left out) its parts between separators."""
    return text.split() if separator is None else text.replace("\n", "").split(separator)


NAMES = listed("""
Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Mia Noah Olivia Paul
Quinn Rosa Sam Tina Uma Victor Wendy Xavier Yara Zoe Alice Bob Carol Dan Eve Frank Gina Hugo Ivan
Julia Karl Laura Mark Nina Oscar Petra Rita Simon Tom Ursula Vera Will Amir Bella Chen Diego Elena
Fatima George Hana Igor Jane Kenji Lucy Maria Nadia Omar Priya Raj Sofia Tariq Alex Max John Mary
Peter Susan James Linda Robert Sarah Thomas Lisa Daniel Nancy Kevin Helen Brian Amy Jason Ruth Eric
Anita Bruno Cora Dora Elias Fiona Gabriel Heidi Isaac Jonas Kira Lena Milo Nora Otto Pia Rene
Stella Theo Ulla Vince Walter Yusuf Zara José Zoë André Jürgen Søren""")

CITIES = listed(
    """
Paris|London|Berlin|Rome|Madrid|Lisbon|Vienna|Oslo|Tokyo|Cairo|Delhi|Lima|Boston|
Chicago|Dublin|Athens|Prague|Warsaw|Helsinki|Stockholm|Moscow|Beijing|Seoul|Bangkok|Sydney|
Toronto|Havana|Nairobi|Lagos|Dakar|Tunis|Amman|Doha|Kyiv|Riga|Zurich|Geneva|Munich|Hamburg|Milan|
Naples|Venice|Porto|Seville|Lyon|Nice|Leeds|York|Bath|Oxford|Denver|Seattle|Miami|Austin|Dallas|
Houston|Phoenix|Portland|Atlanta|New York|San Francisco|Los Angeles|Mexico City|Rio de Janeiro|
Hong Kong|Cape Town|Tel Aviv|New Delhi|Buenos Aires|São Paulo|Zürich|Kraków|Osaka|Kyoto|Mumbai|
Karachi|Lahore|Jakarta|Manila|Hanoi|Singapore|Melbourne|Auckland|Vancouver|Montreal|Brussels|
Antwerp|Utrecht|Rotterdam|Copenhagen|Bergen|Tampere|Vilnius|Tallinn|Bucharest|Sofia|Belgrade|
Istanbul|Ankara|Tehran|Baghdad|San Francisco, CA|Boston, MA|Paris, France|London, UK""",
    "|",
)

NOUNS = listed("""
apple anchor animal apron arrow basket beach bear bell bird blanket boat book bottle
bowl box branch bread bridge brush bucket button cabin cake camera candle carpet castle cat chair
cheese cherry circle clock cloud coat coffee coin corner cow cup curtain desk dog door dragon dream
dress drum duck eagle ear earth egg elephant engine eye face farm feather fence finger fire fish
flag flower forest fork fox friend frog garden gate giraffe glass glove goat gold grass guitar hair
hammer hand hat heart hill honey horse house island jacket jar jewel juice key king kitchen kite
knife ladder lake lamp leaf lemon letter light lion lock machine map market mask meadow milk mirror
monkey moon morning mountain mouse music nail necklace needle nest night nose notebook ocean onion
orange oven owl page paint paper parrot path peach pear pen pencil pepper phone piano picture pillow
planet plate pocket pond potato puppy queen rabbit radio rain ribbon ring river road robot rock roof
room rope rose salt sand school seed shadow sheep shelf ship shirt shoe silver sister snow soap sock
song soup spider spoon spring square star stone storm story strawberry street sugar summer sun table
tea teacher tiger tomato tower town train tree truck turtle umbrella valley vase village violin
wagon wall watch water whale wheel wind window winter wolf wood world yard zebra""")

ADJECTIVES = listed("""
big small red blue green yellow white black brown purple pink orange old new young
happy sad quick slow warm cold hot soft hard bright dark loud quiet long short tall little kind
brave clever gentle lazy busy shiny heavy light round empty full clean sweet sour fresh dry wet
deep wide strong weak proud shy funny calm golden silver tiny huge""")

VERBS = listed("""
walk run jump sing dance read write cook bake swim climb paint draw build open close
carry find lose bring take give make play work sleep dream travel wait listen watch learn teach
plant grow help share laugh smile call visit move turn hold push pull wash clean fix break keep
""")

FOODS = listed("""
pizza soup rice bread cheese pasta salad apples bananas cherries cake chocolate honey
noodles pancakes tomatoes carrots grapes pie sushi tacos curry beans eggs fish""")

JOBS = listed("""
teacher doctor nurse baker farmer painter driver pilot singer writer lawyer engineer
cook dentist gardener plumber judge waiter student chemist""")

PETS = listed("dog cat rabbit horse parrot hamster turtle goldfish pony mouse")

COLORS = listed("red blue green yellow white black brown purple pink orange gray silver")

DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")

MONTHS = listed("""
January February March April May June July August September October November
December""")

LANGUAGES = listed("""
English French German Spanish Italian Portuguese Dutch Polish Russian Arabic Hindi
Japanese Chinese Korean Turkish Greek Swedish""")

COMMON = sorted(set(NOUNS + ADJECTIVES + VERBS + FOODS + JOBS + PETS))

_ONSETS = "b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl fr gl gr pl pr sh sl st th tr"
_VOWELS = "a a e e i i o o u ai ea ee oa oo ou"
_CODAS = "b d g k l m n p r s t x nd ng nk nt rd rk rm rn rt sh sk st ck ll"


def made_up(draw: Draw) -> str:
    """A pronounceable word of two or three syllables that no list holds."""
    parts: list[str] = []
    for _ in range(draw.number(1, 3)):
        parts += [draw.one(_ONSETS.split()), draw.one(_VOWELS.split())]
    if draw.chance(0.7):
        parts.append(draw.one(_CODAS.split()))
    return "".join(parts)


def word(draw: Draw) -> str:
    """A common word, or now and then a made-up one."""
    return draw.one(COMMON) if draw.chance(0.7) else made_up(draw)


def name(draw: Draw) -> str:
    return draw.one(NAMES) if draw.chance(0.6) else made_up(draw).capitalize()


def city(draw: Draw) -> str:
    return draw.one(CITIES) if draw.chance(0.7) else made_up(draw).capitalize()


def phrase(draw: Draw, low: int = 1, high: int = 4) -> str:
    """Some words with spaces between."""
    return " ".join(word(draw) for _ in range(draw.number(low, high)))
