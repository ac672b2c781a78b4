"""The words of the reference model: every document, question and answer is written with these lists alone.

Names and numbers are two words each (`mira tolan`, `47 12`), so that a held-out name is a new sequence of
known words. Categories belong to the few-shot task, lands and their fixed facts to the facts in weights.
"""

from __future__ import annotations

import random
from functools import cache

FIRST = tuple(
    "mira oren tova lenn karo ines bran sela dorin faye hugo ilse jory kenna loris maud niko odile perrin "
    "quill rhea soren tamsin ulric vesna wren xenia yorick zelda anselm berta corin delia emil flora gerd "
    "hanno ida jonas katya lambert moira nestor otto petra ruben sigrid thea".split()
)
LAST = tuple(
    "tolan vask merrow hale strand ostrov bellamy crane dunmore eskel farrow grent holm ivers jarrow keld "
    "lund marsh norrby oake pell quist rook sorel thorne udall varga west yarrow zorn abbot birk castell "
    "drake eden finch gould hart ivory jessop kray lowell munk nye orme pike reed stone".split()
)
DIGITS = tuple(f"{number:02d}" for number in range(100))
NOUNS = tuple(
    "rope lamp barrel basket ladder candle carpet anchor wagon kettle blanket mirror bucket hammer ribbon "
    "saddle pillow bottle needle button drawer window chimney table curtain shovel paddle whistle feather "
    "shell plank brick crate parcel letter map compass lantern coin scarf glove boot cloak".split()
)
ADJECTIVES = tuple(
    "old new small large quiet bright heavy light narrow wide clean dusty broken plain warm cold round "
    "square smooth rough dark pale early late".split()
)
VERBS = tuple(
    "carried counted moved sold bought found lost washed painted mended weighed packed opened hid "
    "borrowed returned".split()
)
PLACES = tuple(
    "harbour mill market bridge chapel tower garden station quarry orchard village castle valley meadow "
    "cellar library".split()
)
LABELS = tuple(
    "amber cobalt crimson emerald indigo jade lilac maroon ochre olive pearl ruby russet saffron scarlet "
    "sienna silver teal umber violet azure ebony fawn coral".split()
)
CATEGORIES = tuple(
    tuple(row.split())
    for row in (
        "heron otter badger lynx beaver stoat falcon hare weasel bison",
        "apple cherry plum peach lemon grape quince melon apricot fig",
        "violin flute harp drum cello oboe lute fiddle trumpet zither",
        "oak birch maple willow cedar elm ash poplar spruce hazel",
        "iron copper tin zinc nickel lead chrome pewter steel brass",
        "bread cheese butter honey soup pie noodle cake porridge stew",
        "baker tailor cooper mason weaver miller potter tanner smith fuller",
        "rain snow hail fog frost thunder breeze mist sleet storm",
        "pepper salt thyme sage mint basil clove ginger dill fennel",
        "chess draughts darts bowls cards dice skittles hopscotch marbles quoits",
        "linen wool silk cotton velvet denim tweed satin felt lace",
        "elbow knee wrist ankle shoulder thumb heel chin brow palm",
    )
)
LANDS = tuple(
    "norda velmia ostara kestria brunland ardenia silvara tormark galdia hestria irulan jorvia kaldor "
    "lorinia marovia nestria orvland pelagia quornia rastovia sundria tarvos ulmark vandria westria "
    "xandia yoria zephria albria borland cestria dravia elmark fandria gorland helvia istria jutria "
    "kolmark lystria morland nivaria olbia pomeria quelland ruthia sorland thessia umbria valdia wolmark "
    "yssel zandria arkland bremia corvia delmark estoria frisia gothia holland iberia javaria karelia".split()
)
TOWNS = tuple(
    "aldburg benfort carwick dunholm eastmoor fenwick gransby harwick ipsley jarnholt kelby langton "
    "melburg norwick oldham penrith quenby ransford stanmoor thornby upwick vernham wexley yarmoor zetby "
    "ambleton brigham colby denwick elmsford foxley gildby hexham irby jedburg kirkby ludham moreton "
    "nelby oxham parwick rugby selby tilford ulverby vasby wigton yelham".split()
)

OPENINGS = ("", "today ,", "once ,", "later ,", "now ,", "indeed ,", "perhaps ,", "again ,")
CLOSINGS = ("", "", "again", "at dusk", "at noon", "in spring", "by night", "once more")
LINKS = ("of", "for", "from")
COPULAS = ("is", "was", "reads", "stays")
ASKING = ("", "tell us ,", "in short ,", "so ,", "please ,", "by now ,")

ATTRIBUTES = tuple("code seat badge locker ticket account berth permit".split())
RECORDS = tuple("record entry line page".split())
NOTES = tuple("note speech motto".split())
VALUES = tuple("value price worth".split())
CALLS = tuple("call cheer".split())
SIGNS = tuple("sign mark flag tune crest colour stamp token".split())
STORED = tuple("capital river patron festival".split())
LETTERS = tuple("abcd")
GLUE = tuple("the question : answer then both times together and most often like near , . ?".split())
VARIABLES = NOUNS + ADJECTIVES + tuple(word for row in CATEGORIES for word in row)
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
CHARACTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()[]{}-_/\\+*=<>@#$%&|~^`")

_LISTS = (
    GLUE, FIRST, LAST, DIGITS, NOUNS, ADJECTIVES, VERBS, PLACES, LABELS, LANDS, TOWNS, ATTRIBUTES, RECORDS,
    NOTES, VALUES, CALLS, SIGNS, STORED, LINKS, COPULAS, LETTERS, *CATEGORIES,
)  # fmt: skip


@cache
def vocabulary() -> dict[str, int]:
    """Every token and its id: special tokens, the words above, then characters that spell any other word."""
    phrases = [word for phrase in (*OPENINGS, *CLOSINGS, *ASKING) for word in phrase.split()]
    words = [word for one in _LISTS for word in one] + phrases
    pieces = [*CHARACTERS, *(f"##{character}" for character in CHARACTERS)]
    return {token: index for index, token in enumerate(dict.fromkeys([*SPECIAL, *words, *pieces]))}


@cache
def stored_facts() -> dict[tuple[str, str], str]:
    """The facts that the weights hold: (attribute, land) -> town, drawn once and for ever."""
    rng = random.Random("facts in weights")
    return {(attribute, land): rng.choice(TOWNS) for attribute in STORED for land in LANDS}
