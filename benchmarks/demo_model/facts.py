"""A table of small facts with several ways to ask for each."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.demo_model.chat import Example, turn
from benchmarks.demo_model.draw import Draw
from benchmarks.demo_model.words import DAYS, MONTHS, listed


@dataclass(frozen=True)
class Relation:
    """Pairs (subject, value), questions about the subject, and the sentence that answers."""

    pairs: dict[str, str]
    questions: list[str]
    answer: str


def _pairs(table: str) -> dict[str, str]:
    rows = (row.partition("=") for row in listed(table, "|"))
    return {subject: value for subject, _, value in rows}


CAPITALS = _pairs(
    """France=Paris|Germany=Berlin|Italy=Rome|Spain=Madrid|Portugal=Lisbon|England=London|
Ireland=Dublin|Austria=Vienna|Norway=Oslo|Sweden=Stockholm|Finland=Helsinki|Denmark=Copenhagen|
Poland=Warsaw|Greece=Athens|Hungary=Budapest|Russia=Moscow|Ukraine=Kyiv|Turkey=Ankara|Egypt=Cairo|
Japan=Tokyo|China=Beijing|India=New Delhi|Canada=Ottawa|Mexico=Mexico City|Brazil=Brasilia|
Peru=Lima|Chile=Santiago|Cuba=Havana|Kenya=Nairobi|Belgium=Brussels|Argentina=Buenos Aires|
Romania=Bucharest|Bulgaria=Sofia|Serbia=Belgrade|Croatia=Zagreb|Iceland=Reykjavik|Latvia=Riga|
Estonia=Tallinn|Lithuania=Vilnius|Iran=Tehran|Iraq=Baghdad|Thailand=Bangkok|Vietnam=Hanoi|
Australia=Canberra|Morocco=Rabat|Tunisia=Tunis|Senegal=Dakar|Nigeria=Abuja|Jordan=Amman|
the United States=Washington|the United Kingdom=London|the Netherlands=Amsterdam|
Switzerland=Bern|Colombia=Bogota|Venezuela=Caracas|South Korea=Seoul|Indonesia=Jakarta"""
)

RELATIONS: dict[str, Relation] = {
    "capital": Relation(
        CAPITALS,
        ["What is the capital of {x}?", "What's the capital of {x}?", "Which city is the capital "
         "of {x}?", "Name the capital of {x}.", "Tell me the capital of {x}.", "Capital of {x}?",
         "Do you know the capital of {x}?", "what is the capital of {x}"],
        "The capital of {x} is {y}.",
    ),
    "country": Relation(
        {v: k for k, v in CAPITALS.items() if k not in ("England",)},
        ["Which country has the capital {x}?", "{x} is the capital of which country?",
         "Of which country is {x} the capital?", "What country is {x} the capital of?"],
        "{x} is the capital of {y}.",
    ),
    "continent": Relation(
        _pairs("""France=Europe|Germany=Europe|Italy=Europe|Spain=Europe|Poland=Europe|
Greece=Europe|Norway=Europe|Sweden=Europe|Egypt=Africa|Kenya=Africa|Nigeria=Africa|Morocco=Africa|
Senegal=Africa|Japan=Asia|China=Asia|India=Asia|Thailand=Asia|Vietnam=Asia|Iran=Asia|
Canada=North America|Mexico=North America|Cuba=North America|Brazil=South America|
Peru=South America|Chile=South America|Argentina=South America|Colombia=South America"""),
        ["On which continent is {x}?", "Where is {x}?", "Which continent is {x} in?",
         "What continent is {x} on?", "In which part of the world is {x}?"],
        "{x} is in {y}.",
    ),
    "language": Relation(
        _pairs("""France=French|Germany=German|Italy=Italian|Spain=Spanish|Portugal=Portuguese|
Japan=Japanese|China=Chinese|Russia=Russian|Greece=Greek|Turkey=Turkish|Poland=Polish|
Sweden=Swedish|Egypt=Arabic|Mexico=Spanish|Brazil=Portuguese|Austria=German|Hungary=Hungarian|
Denmark=Danish|Norway=Norwegian|Finland=Finnish|England=English|Australia=English"""),
        ["Which language do people speak in {x}?", "What language is spoken in {x}?",
         "Which language is spoken in {x}?", "What do people speak in {x}?"],
        "People in {x} speak {y}.",
    ),
    "color": Relation(
        _pairs("""the sky=blue|grass=green|snow=white|a banana=yellow|a lemon=yellow|blood=red|
a tomato=red|a strawberry=red|a carrot=orange|coal=black|milk=white|the sun=yellow|a leaf=green|
an orange=orange|chocolate=brown|a cherry=red|a frog=green|the sea=blue|a raven=black|a swan=white|
a pea=green|cheese=yellow|a plum=purple|a flamingo=pink|wood=brown|a cucumber=green|salt=white"""),
        ["What color is {x}?", "What is the color of {x}?", "Which color is {x}?",
         "What colour is {x}?", "Tell me the color of {x}.", "Which color does {x} have?"],
        "The color of {x} is {y}.",
    ),
    "opposite": Relation(
        _pairs("""hot=cold|big=small|long=short|old=young|new=used|good=bad|happy=sad|fast=slow|
high=low|open=closed|day=night|black=white|up=down|left=right|in=out|hard=soft|light=dark|
early=late|full=empty|rich=poor|strong=weak|wet=dry|clean=dirty|loud=quiet|near=far|
first=last|true=false|yes=no|love=hate|win=lose|push=pull|buy=sell|give=take|start=stop|
always=never|deep=shallow|thick=thin|wide=narrow|sweet=sour|brave=afraid|right=wrong|
summer=winter|north=south|east=west|heavy=light|tall=short|cold=hot|small=big|bad=good|sad=happy|
slow=fast|low=high|night=day|down=up|dark=light|late=early|empty=full|poor=rich|weak=strong|
dry=wet|dirty=clean|quiet=loud|far=near|last=first|false=true|winter=summer"""),
        ["What is the opposite of {x}?", "Opposite of {x}?", "Name the opposite of {x}.",
         "Tell me the opposite of {x}.", "What's the opposite of {x}?",
         "Which word is the opposite of {x}?"],
        "The opposite of {x} is {y}.",
    ),
    "sound": Relation(
        _pairs("""dog=woof|cat=meow|cow=moo|sheep=baa|duck=quack|pig=oink|horse=neigh|lion=roar|
bird=tweet|frog=croak|mouse=squeak|bee=buzz|owl=hoot|snake=hiss|rooster=cock-a-doodle-doo"""),
        ["What sound does a {x} make?", "What does a {x} say?", "How does a {x} sound?",
         "Which sound does a {x} make?"],
        "A {x} says {y}.",
    ),
    "baby": Relation(
        _pairs("""dog=puppy|cat=kitten|cow=calf|sheep=lamb|duck=duckling|pig=piglet|horse=foal|
lion=cub|bear=cub|goat=kid|hen=chick|frog=tadpole|deer=fawn|goose=gosling|swan=cygnet"""),
        ["What is a baby {x} called?", "What do you call a baby {x}?",
         "What is the name of a baby {x}?", "What is a young {x} called?"],
        "A baby {x} is called a {y}.",
    ),
    "legs": Relation(
        _pairs("""dog=4|cat=4|spider=8|bird=2|ant=6|bee=6|horse=4|fish=0|snake=0|duck=2|cow=4|
chair=4|person=2|beetle=6|lion=4|hen=2"""),
        ["How many legs does a {x} have?", "How many legs has a {x}?",
         "What number of legs does a {x} have?", "Tell me how many legs a {x} has."],
        "A {x} has {y} legs.",
    ),
    "sides": Relation(
        _pairs("triangle=3|square=4|rectangle=4|pentagon=5|hexagon=6|octagon=8"),
        ["How many sides does a {x} have?", "How many sides has a {x}?",
         "What number of sides does a {x} have?"],
        "A {x} has {y} sides.",
    ),
    "symbol": Relation(
        _pairs("""gold=Au|silver=Ag|iron=Fe|copper=Cu|oxygen=O|hydrogen=H|carbon=C|helium=He|
nitrogen=N|sodium=Na|lead=Pb|tin=Sn|zinc=Zn|calcium=Ca"""),
        ["What is the chemical symbol of {x}?", "What is the chemical symbol for {x}?",
         "Which symbol does {x} have?", "What is the symbol for {x}?"],
        "The chemical symbol of {x} is {y}.",
    ),
    "plural": Relation(
        _pairs("""mouse=mice|child=children|man=men|woman=women|foot=feet|tooth=teeth|goose=geese|
leaf=leaves|knife=knives|wolf=wolves|box=boxes|city=cities|baby=babies|fish=fish|sheep=sheep|
dog=dogs|cat=cats|house=houses|tree=trees|book=books|key=keys|bus=buses|story=stories"""),
        ["What is the plural of {x}?", "Plural of {x}?", "What is more than one {x} called?",
         "Give me the plural of {x}."],
        "The plural of {x} is {y}.",
    ),
    "count": Relation(
        _pairs("""days are in a week=7 days in a week|months are in a year=12 months in a year|
hours are in a day=24 hours in a day|minutes are in an hour=60 minutes in an hour|
seconds are in a minute=60 seconds in a minute|days are in a year=365 days in a year|
letters are in the alphabet=26 letters in the alphabet|weeks are in a year=52 weeks in a year|
continents are there=7 continents|planets are there=8 planets around the sun"""),
        ["How many {x}?", "Tell me how many {x}.", "Do you know how many {x}?", "how many {x}"],
        "There are {y}.",
    ),
    "misc": Relation(
        _pairs("""is the largest planet=The largest planet is Jupiter|
is the largest ocean=The largest ocean is the Pacific|
is the highest mountain=The highest mountain is Mount Everest|
is the largest animal=The largest animal is the blue whale|
is the fastest land animal=The fastest land animal is the cheetah|
is the tallest animal=The tallest animal is the giraffe|
is the longest river=The longest river is the Nile|
is the closest star=The closest star is the sun|
is the red planet=The red planet is Mars|
do bees make=Bees make honey|do cows give us=Cows give us milk|
is ice made of=Ice is made of water|is bread made of=Bread is made of flour|
is the first month=The first month is January|is the last month=The last month is December"""),
        ["What {x}?", "Do you know what {x}?", "Tell me what {x}.", "what {x}"],
        "{y}.",
    ),
}  # fmt: skip

LISTS = {
    "colors": listed("red blue green yellow orange purple"),
    "animals": listed("dog cat horse lion bear fox"),
    "fruits": listed("apple banana cherry orange pear grape"),
    "cities": listed("Paris London Rome Berlin Madrid Tokyo"),
    "days": DAYS[:6],
    "months": MONTHS[:6],
    "planets": listed("Mercury Venus Earth Mars Jupiter Saturn"),
    "countries": listed("France Germany Italy Spain Japan Brazil"),
    "vegetables": listed("carrot potato tomato onion pea bean"),
    "birds": listed("owl eagle duck swan parrot hen"),
}
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "2": 2, "3": 3, "4": 4, "5": 5}
_FLAT = [(kind, subject) for kind, relation in RELATIONS.items() for subject in relation.pairs]


def fact_count() -> int:
    return len(_FLAT) + 2 * (len(DAYS) + len(MONTHS))


def fact(draw: Draw) -> Example:
    """A known fact; held out are pairs of a fact and a way to ask for it."""

    def make() -> tuple[str, str, str]:
        kind, subject = draw.one(_FLAT)
        return kind, subject, draw.one(RELATIONS[kind].questions)

    kind, subject, question = draw.item("fact", make)
    answer = RELATIONS[kind].answer.format(x=subject, y=RELATIONS[kind].pairs[subject])
    return turn(question.format(x=subject), answer[0].upper() + answer[1:])


def calendar(draw: Draw) -> Example:
    """The day or month after or before another."""
    unit, names = draw.one((("day", DAYS), ("month", MONTHS)))

    def make() -> tuple[int, str, str]:
        ask = draw.one(["What {u} comes {w} {x}?", "Which {u} comes {w} {x}?", "Which {u} is {w} "
                        "{x}?", "What is the {u} {w} {x}?", "Name the {u} {w} {x}."])  # fmt: skip
        return draw.number(0, len(names) - 1), draw.one(("after", "before")), ask

    index, where, ask = draw.item("calendar", make)
    other = names[(index + (1 if where == "after" else -1)) % len(names)]
    question = ask.format(u=unit, w=where, x=names[index])
    return turn(question, f"The {unit} {where} {names[index]} is {other}.")


def listing(draw: Draw) -> Example:
    """Some members of a group, always in the same order."""

    def make() -> tuple[str, str, str]:
        ask = draw.one(
            [
                "List {n} {g}.",
                "Name {n} {g}.",
                "Give me {n} {g}.",
                "Tell me {n} {g}.",
                "Can you name {n} {g}?",
                "Please list {n} {g}.",
                "Write a list of {n} {g}",
            ]
        )
        return draw.one(sorted(LISTS)), draw.one(sorted(_COUNTS)), ask

    group, count, ask = draw.item("list", make)
    members = LISTS[group][: _COUNTS[count]]
    answer = ", ".join(members[:-1]) + " and " + members[-1] + "."
    return turn(ask.format(n=count, g=group), answer[0].upper() + answer[1:])


def plain_fact(draw: Draw) -> Example:
    """A few true sentences as a plain text."""
    parts = [skill(draw) for skill in draw.some((fact, fact, calendar), draw.number(1, 3))]
    return Example(text=" ".join(part.messages[-1]["content"] for part in parts))
