"""A recipe as one line, in river order.

    recipe   item [; item …]          an item is a stage, a code, a reader, or (first) the name of a recipe
    stage    [when [, when …]:] part > part … [@ budget] [on layers]        or   when: same
    when     at prompt  |  every 64 [in prompt | in decode]
    part     name  |  name(value, name=value, …)
    value    32  |  0.2  |  50%  |  true  |  mean
    budget   10%  |  20% of prompt  |  512MiB  |  128tok
    layers   2..  |  ..8  |  2..8  |  5  |  ::3

A part behind a recipe's name takes the place of the part of its room in the last stage that is written out,
rescorers and transforms stack, `same` follows; a code and a reader may stand in a chain or behind a
semicolon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from keyvalise.recipe import catalogue, words
from keyvalise.recipe.draft import Draft, Step
from keyvalise.recipe.reader import DEFAULTS, Reader
from keyvalise.recipe.stage import Fields, Stage
from keyvalise.recipe.tokens import Token, Tokens
from keyvalise.recipe.turned import parts_of
from keyvalise.types.errors import RecipeError, UnknownName
from keyvalise.types.part import CODING, READING
from keyvalise.types.quantity import ALL_LAYERS, Budget, Layers, Share
from keyvalise.types.when import AtPrompt, Every, When

if TYPE_CHECKING:
    from keyvalise.recipe.object import Recipe


def parse(text: str) -> Fields:
    """The fields of the recipe that a text describes.

    Raises   RecipeError naming the place; UnknownName, BadArgument likewise
    """
    if not isinstance(text, str):
        raise RecipeError(f"a recipe is written as text, got {type(text).__name__}")
    tokens = Tokens(text)
    if tokens.peek.kind == "end":
        tokens.fail("a recipe has at least one word; 'full' keeps everything")
    draft = _draft(tokens)
    try:
        return draft.finish()
    except RecipeError as error:
        raise error.at(f"recipe {text!r}") from None


def _draft(tokens: Tokens) -> Draft:
    draft = Draft()
    if tokens.peek.kind == "end":
        return draft
    draft = _item(tokens, draft, is_first=True)
    while tokens.peek.kind != "end":
        tokens.expect(";")
        draft = _item(tokens, draft, is_first=False)
    return draft


def _item(tokens: Tokens, draft: Draft, is_first: bool) -> Draft:
    when, start = _whens(tokens), tokens.peek
    rooms: set[str] = set()
    if start.text == "same":
        tokens.next += 1
        if not draft.steps:
            tokens.fail("there is no stage before this one to repeat", start)
        if not when:
            tokens.fail("say when, as in 'every 64 in decode: same'", start)
        draft.steps.append(Step(when, is_same=True))
        steps = [draft.steps[-1]]
    elif is_first and not when and _is_recipe(start):
        draft = _named(tokens)
        rooms = _chain(tokens, draft, draft.last, ()) if tokens.take(">") else rooms
        steps = draft.written
    else:
        n_before = len(draft.steps)
        rooms = _chain(tokens, draft, None, when, is_first)
        if is_first and rooms & {*CODING} and start.text in catalogue.recipes():
            draft.name = start.text
        steps = draft.steps[n_before:]
        if when and not steps:
            word = "reader" if rooms & {*READING} else "code"
            tokens.fail(f"a {word} has no schedule; it stands behind a semicolon without 'when:'", start)
    _tail(tokens, draft, steps, rooms)
    return draft


def _is_recipe(token: Token) -> bool:
    """Codes bear one name as a part and as a recipe, and mean the same."""
    return token.text in catalogue.recipes() and catalogue.room(token.text) != "encode"


def _named(tokens: Tokens) -> Draft:
    """The draft of a recipe of the catalogue with its arguments."""
    token, given, arguments = _call(tokens)
    published = catalogue.recipe(token.text)
    draft = _draft(Tokens(published.text))
    draft.name, draft.is_budgeted = published.name, False
    if given:
        known = ", ".join(published.arguments) or "none"
        tokens.fail(f"arguments of the recipe {token.text} are named ({known})", token)
    with tokens.at(token):
        draft.argue(arguments, published)
    return draft


def _chain(
    tokens: Tokens, draft: Draft, step: Step | None, when: tuple[When, ...], is_first: bool = False
) -> set[str]:
    """Put a chain's parts into a step (a new one if None) or into the draft; the rooms that it names."""
    rooms: set[str] = set()
    while True:
        token = tokens.peek
        part = _part(tokens, is_first and not when and not rooms)
        if part.room in rooms - {"rescore", "transform"}:
            tokens.fail(f"this stage has two parts of the room {part.room!r}", token)
        rooms.add(part.room)
        if part.room == "encode":
            draft.code = part
        elif part.room in READING:
            draft.reader[part.room] = part
        elif part.room == "transform":
            draft.transforms.append(part)
        else:
            if step is None:
                step = Step(when or (AtPrompt(),))
                draft.steps.append(step)
            step.put(part)
        if not tokens.take(">"):
            return rooms


def _part(tokens: Tokens, may_be_recipe: bool) -> Any:
    token, given, named = _call(tokens)
    with tokens.at(token):
        if catalogue.room(token.text) is None:
            if token.text in catalogue.recipes():
                raise RecipeError(
                    f"{token.text} is a recipe with stages of its own; it stands first, without 'when:'"
                )
            if may_be_recipe:
                raise UnknownName("recipe or part", token.text, {*catalogue.recipes(), *catalogue.parts()})
        return words.make(token.text, given, named)


def _call(tokens: Tokens) -> tuple[Token, list[words.Value], dict[str, words.Value]]:
    """A name and its arguments: those without a name, those with one."""
    token = tokens.pop("word", "the name of a recipe or part")
    given: list[words.Value] = []
    named: dict[str, words.Value] = {}
    if not tokens.take("("):
        return token, given, named
    while not tokens.take(")"):
        start, value = tokens.peek, _value(tokens)
        if tokens.take("="):
            if start.kind != "word" or start.text in named:
                tokens.fail("an argument is a name, '=' and a value, and is given once", start)
            named[start.text] = _value(tokens)
        elif named:
            tokens.fail("arguments without a name come first", start)
        else:
            given.append(value)
        if not tokens.ahead(")"):
            tokens.expect(",")
    return token, given, named


def _value(tokens: Tokens) -> words.Value:
    token = tokens.peek
    if token.kind == "word":
        tokens.next += 1
        return {"true": True, "false": False}.get(token.text, token.text)
    if token.kind == "string":
        tokens.next += 1
        return token.text
    number = tokens.pop("number", "a number, a percentage or a word").text
    if tokens.take("%"):
        return Share(float(number))
    return float(number) if "." in number else int(number)


def _whens(tokens: Tokens) -> tuple[When, ...]:
    """The schedule before a colon; nothing where the next word begins no schedule."""
    found: list[When] = []
    while tokens.ahead("at") or tokens.ahead("every"):
        if tokens.take("at"):
            tokens.expect("prompt")
            found.append(AtPrompt())
        else:
            tokens.expect("every")
            token = tokens.pop("number", "a number of tokens")
            if not token.text.isdigit() or int(token.text) == 0:
                tokens.fail("every must be a whole number at least 1", token)
            found.append(Every(int(token.text), _phase(tokens)))
        if tokens.take(":"):
            return tuple(found)
        tokens.expect(",")
    if found:
        tokens.fail("expected 'at prompt' or 'every n'")
    return ()


def _phase(tokens: Tokens) -> Literal["prompt", "decode"] | None:
    if not tokens.take("in"):
        return None
    if tokens.take("prompt"):
        return "prompt"
    tokens.expect("decode")
    return "decode"


def _tail(tokens: Tokens, draft: Draft, steps: list[Step], rooms: set[str]) -> None:
    """What may stand behind a chain: a budget, then a range of layers."""
    if tokens.take("@"):
        number = tokens.pop("number", "a budget: 10%, 20% of prompt, 512MiB or 128tok")
        with tokens.at(number):
            draft.afford(Budget.parse(number.text + tokens.until(";", "on")), steps)
    if tokens.take("on"):
        start = tokens.peek
        with tokens.at(start):
            layers = Layers.parse(tokens.until(";"))
        for step in steps:
            step.layers = layers
        if rooms & {*READING} or not rooms:
            draft.reader_layers = layers
        if rooms & {*CODING} or not (steps or rooms):
            draft.code_layers = layers
    if tokens.peek.kind != "end" and not tokens.ahead(";"):
        tokens.fail("expected '>', '@', 'on' or ';'")


def write(recipe: Recipe) -> str:
    """The normal form: every stage with its schedule, defaults left out, then the code and the reader."""
    items: list[str] = []
    before: Stage | None = None
    for stage in recipe.stages:
        items.append(", ".join(map(str, stage.when)) + ": " + _body(stage, before))
        before = stage
    if recipe.code is not None or not items:
        word = "full" if recipe.code is None else words.joined(parts_of(recipe.code))
        budget = f" @ {recipe.budget}" if recipe.budget is not None and not items else ""
        if recipe.code is not None or recipe.reader is None:
            items.append(word + budget + _on(recipe.code_layers))
    if recipe.reader is not None:
        items.append(_reader(recipe.reader) + _on(recipe.reader_layers))
    return "; ".join(items)


def _body(stage: Stage, before: Stage | None) -> str:
    if before is not None and (before.parts, before.budget, before.layers) == (
        stage.parts,
        stage.budget,
        stage.layers,
    ):
        return "same"
    chain = " > ".join(
        word for part in stage.parts if (word := words.written(part)) not in ("uniform", "top")
    )
    return chain + ("" if stage.budget is None else f" @ {stage.budget}") + _on(stage.layers)


def _reader(reader: Reader) -> str:
    return " > ".join(
        written for part in reader.parts if (written := words.written(part)) != DEFAULTS.get(part.room)
    )


def _on(layers: Layers) -> str:
    return "" if layers == ALL_LAYERS else f" on {layers}"
