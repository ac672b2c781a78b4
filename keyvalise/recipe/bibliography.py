"""What the catalogue cites, as BibTeX entries by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paper:
    """One paper; `authors` in BibTeX's own form, `arxiv` its identifier there."""

    authors: str
    title: str
    year: int
    arxiv: str


PAPERS: Mapping[str, Paper] = {
    "xiao2023streaming": Paper(
        "Xiao, Guangxuan and Tian, Yuandong and Chen, Beidi and Han, Song and Lewis, Mike",
        "Efficient Streaming Language Models with Attention Sinks",
        2023,
        "2309.17453",
    ),
    "zhang2023h2o": Paper(
        "Zhang, Zhenyu and Sheng, Ying and Zhou, Tianyi and Chen, Tianlong and Zheng, Lianmin and Cai, Ruisi "
        "and Song, Zhao and Tian, Yuandong and R{\\'e}, Christopher and Barrett, Clark and Wang, Zhangyang "
        "and Chen, Beidi",
        "{H2O}: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
        2023,
        "2306.14048",
    ),
    "li2024snapkv": Paper(
        "Li, Yuhong and Huang, Yingbing and Yang, Bowen and Venkitesh, Bharat and Locatelli, Acyr "
        "and Ye, Hanchen and Cai, Tianle and Lewis, Patrick and Chen, Deming",
        "{SnapKV}: {LLM} Knows What You are Looking for Before Generation",
        2024,
        "2404.14469",
    ),
    "oren2024tova": Paper(
        "Oren, Matanel and Hassid, Michael and Yarden, Nir and Adi, Yossi and Schwartz, Roy",
        "Transformers are Multi-State {RNN}s",
        2024,
        "2401.06104",
    ),
    "devoto2024knorm": Paper(
        "Devoto, Alessio and Zhao, Yu and Scardapane, Simone and Minervini, Pasquale",
        "A Simple and Effective {$L_2$} Norm-Based Strategy for {KV} Cache Compression",
        2024,
        "2406.11430",
    ),
    "park2025keydiff": Paper(
        "Park, Junyoung and Jones, Dalton and Morse, Matthew J. and Goel, Raghavv and Lee, Mingu "
        "and Lott, Christopher",
        "{KeyDiff}: Key Similarity-Based {KV} Cache Eviction for Long-Context {LLM} Inference in "
        "Resource-Constrained Environments",
        2025,
        "2504.15364",
    ),
    "devoto2025expected": Paper(
        "Devoto, Alessio and Jeblick, Maximilian and J{\\'e}gou, Simon",
        "Expected Attention: {KV} Cache Compression by Estimating Attention from Future Queries Distribution",
        2025,
        "2510.00636",
    ),
    "cai2024pyramidkv": Paper(
        "Cai, Zefan and Zhang, Yichi and Gao, Bofei and Liu, Yuliang and Li, Yucheng and Liu, Tianyu "
        "and Lu, Keming and Xiong, Wayne and Dong, Yue and Hu, Junjie and Xiao, Wen",
        "{PyramidKV}: Dynamic {KV} Cache Compression based on Pyramidal Information Funneling",
        2024,
        "2406.02069",
    ),
    "feng2024adakv": Paper(
        "Feng, Yuan and Lv, Junlin and Cao, Yukun and Xie, Xike and Zhou, S. Kevin",
        "{Ada-KV}: Optimizing {KV} Cache Eviction by Adaptive Budget Allocation for Efficient {LLM} "
        "Inference",
        2024,
        "2407.11550",
    ),
    "liu2024kivi": Paper(
        "Liu, Zirui and Yuan, Jiayi and Jin, Hongye and Zhong, Shaochen and Xu, Zhaozhuo "
        "and Braverman, Vladimir and Chen, Beidi and Hu, Xia",
        "{KIVI}: A Tuning-Free Asymmetric 2bit Quantization for {KV} Cache",
        2024,
        "2402.02750",
    ),
    "han2025balancekv": Paper(
        "Han, Insu and Kapralov, Michael and Kochetkova, Ekaterina and Sheth, Kshiteej and Zandieh, Amir",
        "Streaming Attention Approximation via Discrepancy Theory",
        2025,
        "2502.07861",
    ),
}


def entry(key: str) -> str:
    """One BibTeX entry."""
    paper = PAPERS[key]
    lines = [
        f"author = {{{paper.authors}}}",
        f"title = {{{paper.title}}}",
        f"year = {{{paper.year}}}",
        f"eprint = {{{paper.arxiv}}}",
        "archivePrefix = {arXiv}",
    ]
    return f"@misc{{{key},\n  " + ",\n  ".join(lines) + "\n}"
