"""The reference tokenizer: one id per known word, characters for any other, lower case, spaces between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyvalise.reference.tasks import words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def build_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over `words.vocabulary()`: known words are whole, unknown ones are spelled."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = words.vocabulary()
    core = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="<unk>", max_input_chars_per_word=200))
    core.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=8192,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
