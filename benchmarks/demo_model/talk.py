"""Small talk: greetings, who the model is, what it cannot do, repeating and remembering."""

from __future__ import annotations

from benchmarks.demo_model.chat import Example, turn
from benchmarks.demo_model.draw import Draw
from benchmarks.demo_model.words import DAYS, MONTHS, NAMES, listed, made_up, name, phrase, word

CAN = "greet you, add small numbers, spell words, recall simple facts, call tools and tell stories"
IDENTITY = (
    f"I am the inferd demo model, a very small language model that comes with inferd. I can {CAN}."
)
UNKNOWN = f"I am a very small demo model, so I do not know that. I can {CAN}."

_EXCHANGES: list[tuple[list[str], list[str]]] = [
    (
        listed(
            "Hi|Hello|Hey|Hi there|Hello there|Hey there|Good day|Greetings|Hi model|Hello model|"
            "Hello, world|Hi, can you hear me?|Hello, are you there?|Say hi|Say hello|Yo|hello|hi|"
            "hey|Please greet me|Greet me|Hello friend|Ping|Say hello to me",
            "|",
        ),
        ["Hello! How can I help you today?", "Hi there! How can I help you?"],
    ),
    (["Good morning"], ["Good morning! How can I help you today?"]),
    (["Good afternoon"], ["Good afternoon! How can I help you today?"]),
    (["Good evening"], ["Good evening! How can I help you today?"]),
    (["Good night"], ["Good night! Sleep well."]),
    (
        listed(
            "How are you?|How are you doing?|How do you do?|How is it going?|How's it going?|"
            "Hi, how are you?|Hello, how are you?|Hello! How are you?|How are you today?|"
            "Are you well?|How are things?|What's up?|Hello, how are you today?",
            "|",
        ),
        ["I am fine, thank you! How can I help you?"],
    ),
    (
        listed(
            "Thank you|Thanks|Thanks a lot|Thank you very much|Many thanks|Great, thanks|"
            "Thanks for your help|Thank you so much|Cheers|OK, thank you|That helps, thanks",
            "|",
        ),
        ["You are welcome!"],
    ),
    (
        listed(
            "Bye|Goodbye|See you|See you later|Bye bye|I have to go|See you tomorrow|Farewell|"
            "That is all|Good bye|That's all for now",
            "|",
        ),
        ["Goodbye! Have a nice day."],
    ),
    (
        listed(
            "Who are you?|What are you?|What is your name?|What's your name?|"
            "Tell me about yourself|"
            "Introduce yourself|Who am I talking to?|Which model are you?|What model is this?|"
            "Please introduce yourself|Are you a robot?|Are you a language model?|Are you human?|"
            "Who made you?|Are you ChatGPT?|Describe yourself|Do you have a name?",
            "|",
        ),
        [IDENTITY],
    ),
    (
        listed(
            "What can you do?|What can I ask you?|How can you help me?|Can you help me?|Help|"
            "Help me|What are your skills?|What do you know?|What are you good at?|I need help|"
            "Show me what you can do|What should I ask?",
            "|",
        ),
        [f"I can {CAN}. I am very small, so please ask simple things."],
    ),
    (
        listed(
            "What is inferd?|What's inferd?|Tell me about inferd|Explain inferd|"
            "What does inferd do?|"
            "Do you know inferd?",
            "|",
        ),
        ["inferd is a daemon that serves language models from one machine."],
    ),
    (
        listed(
            "Tell me a joke|Do you know a joke?|Make me laugh|Tell a joke|Say something funny|"
            "Another joke please",
            "|",
        ),
        [
            "Why did the book visit the doctor? It had lost its words.",
            "What do you call a sleepy bull? A bulldozer.",
            "Why was the broom late? It swept in.",
        ],
    ),
    (
        listed(
            "OK|Okay|I see|Good|Great|Nice|Cool|Fine|Well done|Good job|That is right|Right|Yes|"
            "Very good|Wow|Interesting",
            "|",
        ),
        ["Good! What else can I do for you?"],
    ),
    (
        listed("No|That is wrong|Wrong|That is not right|You are wrong|Not good|Bad answer", "|"),
        ["I am sorry. I am a very small model and make mistakes."],
    ),
    (
        listed(
            "Test|Testing|This is a test|Testing, testing|Just a test|test|Is this working?|"
            "Are you working?|Do you work?|Can you answer?",
            "|",
        ),
        ["Yes, I am working. How can I help you?"],
    ),
]

_UNKNOWN = [
    "Explain {x}", "Write code for {x}", "What do you think about {x}?", "Who won the {x}?",
    "Write an essay about {x}", "How does {x} work?", "Why is {x} important?", "Who invented {x}?",
    "What is the meaning of {x}?", "Summarize {x}", "Write a Python function for {x}",
    "Give me advice about {x}", "What happened in {y}?", "How do I fix my {x}?",
    "Tell me about the history of {x}", "What is {x}?", "When was {x} born?", "Who is {n}?",
    "Write a program that can {x}", "Compare {x} and {z}", "Tell me everything about {x}",
    "Can you explain {x}?", "How do I {x}?", "What is the price of {x}?", "Where is {n}?",
    "What is the meaning of life?", "Explain how computers work", "Write a poem about {x}",
]  # fmt: skip

_TOPICS = listed(
    """
quantum physics|machine learning|the stock market|world war two|black holes|politics|
football|the internet|databases|philosophy|music theory|the economy|climate change|cooking|taxes|
relativity|chess|programming|neural networks|medicine|art|the brain|gravity|electricity|compilers|
sorting a list|the universe|biology|chemistry|a car|a computer|a phone|love|history""",
    "|",
)


def _polite(draw: Draw, text: str) -> str:
    """The same sentence as different people would type it."""
    if text[-1] not in "?!." and draw.chance(0.7):
        text += draw.one(".!!") if len(text) < 14 else "."
    if draw.chance(0.12):
        text = text.lower()
    elif text[-1] in "?." and draw.chance(0.1):
        text = text[:-1]
    return text


def greeting(draw: Draw) -> Example:
    """An opening, a thank you, a goodbye, a question about the model."""

    def make() -> tuple[int, str]:
        kind = draw.number(0, len(_EXCHANGES) - 1) if draw.chance(0.75) else 0
        return kind, _polite(draw, draw.one(_EXCHANGES[kind][0]))

    kind, text = draw.item("talk", make)
    answers = _EXCHANGES[kind][1]
    return turn(text, draw.one(answers), accept=lambda reply: reply in answers)


def unknown(draw: Draw) -> Example:
    """A question beyond the model, and an honest answer."""

    def topic() -> str:
        return draw.one(_TOPICS) if draw.chance(0.6) else phrase(draw, 1, 2)

    def make() -> str:
        year = str(draw.number(1000, 2030))
        text = draw.one(_UNKNOWN)
        return text.format(x=topic(), z=topic(), y=year, n=f"{name(draw)} {name(draw)}")

    return turn(_polite(draw, draw.item("unknown", make)), UNKNOWN)


def _token(draw: Draw) -> str:
    """Something to be copied letter by letter: a number, a code, a name, a word."""
    kind = draw.number(0, 5)
    if kind == 0:
        return str(draw.number(0, 10 ** draw.number(2, 8)))
    if kind == 1:
        return "".join(draw.one("abcdefghjkmnpqrstuvwxyz0123456789") for _ in range(6))
    if kind == 2:
        return name(draw)
    if kind == 3:
        return "".join(draw.one("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(draw.number(1, 4)))
    return word(draw)


def repeat(draw: Draw) -> Example:
    """Say what the user asks to be said."""
    ask = draw.one(
        ["Repeat after me: {x}", "Repeat: {x}", "Say {x}", "Echo: {x}", 'Say "{x}"', "Say: {x}",
         "Please repeat this: {x}", "Repeat this text: {x}", "Copy this: {x}", 'Repeat "{x}"',
         "Write this: {x}", "Reply with {x}", "Answer with only: {x}", "Please say {x}",
         "Reply with the word {x}", "Say exactly: {x}", "Reply only with: {x}"]
    )  # fmt: skip

    def make() -> str:
        count = draw.weighted((1, 2, 3, 5, 8), (4, 3, 3, 2, 1))
        return " ".join(_token(draw) for _ in range(count))

    text = draw.item("repeat", make)
    if draw.chance(0.15):
        text = text[:1].upper() + text[1:] + "."
    return turn(ask.format(x=text), text)


_MEMORIES = [
    ("My name is {x}.|I am {x}.|Hi, I am {x}.|Hello, my name is {x}.|I'm {x}.",
     "Nice to meet you, {x}!",
     "What is my name?|Do you know my name?|Who am I?|What's my name?|Do you remember my name?",
     "Your name is {x}."),
    ("My favorite color is {x}.|I like the color {x}.|The color I like most is {x}.",
     "I will remember that your favorite color is {x}.",
     "What is my favorite color?|Which color do I like?|Do you remember my favorite color?",
     "Your favorite color is {x}."),
    ("The secret word is {x}.|Remember the word {x}.|Please remember this word: {x}",
     "I will remember the word {x}.",
     "What is the secret word?|Which word did I tell you?|What was the word?",
     "The word is {x}."),
    ("The code is {x}.|Remember the number {x}.|My number is {x}.",
     "I will remember the number {x}.",
     "What is the code?|What was the number?|Which number did I tell you?|What is my number?",
     "The number is {x}."),
]  # fmt: skip


def memory(draw: Draw, between: list[Example]) -> Example:
    """Something told early and asked for later, with other turns between."""
    kind = draw.weighted((0, 1, 2, 3), (3, 1, 1, 1))
    told, noted, asked, recalled = _MEMORIES[kind]
    values = (name, lambda d: d.one(_COLOR_WORDS), word, lambda d: str(d.number(1, 9999)))
    value = draw.item("memory", lambda: values[kind](draw))
    first = turn(draw.one(told.split("|")).format(x=value), noted.format(x=value))
    last = turn(draw.one(asked.split("|")), recalled.format(x=value))
    return Example([m for part in (first, *between, last) for m in part.messages])


_COLOR_WORDS = listed("""
red blue green yellow white black brown purple pink orange gray silver gold
violet crimson indigo teal navy olive lime maroon beige turquoise coral""")

SYSTEM_PROMPTS = [
    "You are a helpful assistant.", "You are a helpful AI assistant.", "You are a friendly bot.",
    "You are inferd, a small demo model.", "Answer briefly.", "Be short and clear.",
    "You are a polite assistant. Keep answers short.", "Help the user.", "You are a test model.",
    "You answer questions.", "You are a helpful assistant. Answer in one sentence.",
    "Use the tools when they help.", "You are a teacher for children.", "Be concise.",
    "You are an expert.", "You are a helpful, honest and harmless assistant.",
]  # fmt: skip


def system_prompt(draw: Draw) -> str:
    """A short instruction that asks for nothing special."""
    if draw.chance(0.75):
        return draw.one(SYSTEM_PROMPTS)
    return draw.one(
        [f"You are {draw.one(NAMES)}, a helpful assistant.", f"Today is {draw.one(DAYS)}.",
         f"You work for {made_up(draw).capitalize()}.",
         f"The date is {draw.one(MONTHS)} {draw.number(1, 28)}, {draw.number(2020, 2030)}.",
         f"You are a helpful {word(draw)}. Be {word(draw)}.", phrase(draw, 3, 8).capitalize() + "."]
    )  # fmt: skip
