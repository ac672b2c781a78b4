"""What the catalogue cites, as BibTeX entries by key."""

from __future__ import annotations

from collections.abc import Mapping

from keyvalise.recipe import searching
from keyvalise.recipe.paper import Paper

PAPERS: Mapping[str, Paper] = {
    "fei2025ehpc": Paper(
        "Fei, Weizhi and Niu, Xueyan and Xie, Guoqing and Liu, Yingqing and Bai, Bo and Han, Wei",
        "Efficient Prompt Compression with Evaluator Heads for Long-Context Transformer Inference",
        2025,
        "2501.12959",
    ),
    "abbasi2024normxlogit": Paper(
        "Abbasi, Sina and Modarres, Mohammad Reza and Pilehvar, Mohammad Taher",
        "{NormXLogit}: The Head-on-Top Never Lies",
        2024,
        "2411.16252",
    ),
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
    "guo2024vatp": Paper(
        "Guo, Zhiyu and Kamigaito, Hidetaka and Watanabe, Taro",
        "Attention Score is not All You Need for Token Importance Indicator in {KV} Cache Reduction: "
        "Value Also Matters",
        2024,
        "2406.12335",
    ),
    "goel2025caote": Paper(
        "Goel, Raghavv and Park, Junyoung and Gagrani, Mukul and Jones, Dalton and Morse, Matthew "
        "and Langston, Harper and Lee, Mingu and Lott, Chris",
        "{CAOTE}: {KV} Caching through Attention Output Error based Token Eviction",
        2025,
        "2504.14051",
    ),
    "feng2025criticalkv": Paper(
        "Feng, Yuan and Lv, Junlin and Cao, Yukun and Xie, Xike and Zhou, S. Kevin",
        "Identify Critical {KV} Cache in {LLM} Inference from an Output Perturbation Perspective",
        2025,
        "2502.03805",
    ),
    "adnan2024keyformer": Paper(
        "Adnan, Muhammad and Arunkumar, Akhil and Jain, Gaurav and Nair, Prashant J. and Soloveychik, Ilya "
        "and Kamath, Purushotham",
        "Keyformer: {KV} Cache Reduction through Key Tokens Selection for Efficient Generative Inference",
        2024,
        "2403.09054",
    ),
    "fu2024headkv": Paper(
        "Fu, Yu and Cai, Zefan and Asi, Abedelkadir and Xiong, Wayne and Dong, Yue and Xiao, Wen",
        "Not All Heads Matter: A Head-Level {KV} Cache Compression Method with Integrated Retrieval and "
        "Reasoning",
        2024,
        "2410.19258",
    ),
    "lin2025compresskv": Paper(
        "Lin, Xiaolin and Wang, Jingcun and Kondrateva, Olga and Shi, Yiyu and Li, Bing and Zhang, Grace Li",
        "{CompressKV}: Semantic Retrieval Heads Know What Tokens are Not Important Before Generation",
        2025,
        "2508.02401",
    ),
    "wang2024prefixkv": Paper(
        "Wang, Ao and Chen, Hui and Tan, Jianchao and Zhang, Kefeng and Cai, Xunliang and Lin, Zijia "
        "and Han, Jungong and Ding, Guiguang",
        "{PrefixKV}: Adaptive Prefix {KV} Cache is What Vision Instruction-Following Models Need for "
        "Efficient Generation",
        2024,
        "2412.03409",
    ),
    "xiao2024duo": Paper(
        "Xiao, Guangxuan and Tang, Jiaming and Zuo, Jingwei and Guo, Junxian and Yang, Shang "
        "and Tang, Haotian and Fu, Yao and Han, Song",
        "{DuoAttention}: Efficient Long-Context {LLM} Inference with Retrieval and Streaming Heads",
        2024,
        "2410.10819",
    ),
    "du2025rlkv": Paper(
        "Du, Wenjie and Jiang, Li and Tao, Keda and Liu, Xue and Wang, Huan",
        "Which Heads Matter for Reasoning? {RL}-Guided {KV} Cache Compression",
        2025,
        "2510.08525",
    ),
    "tang2024razor": Paper(
        "Tang, Hanlin and Lin, Yang and Lin, Jing and Han, Qingsen and Hong, Shikuan and Yao, Yiwu "
        "and Wang, Gongyi",
        "{RazorAttention}: Efficient {KV} Cache Compression Through Retrieval Heads",
        2024,
        "2407.15891",
    ),
    "ge2023fastgen": Paper(
        "Ge, Suyu and Zhang, Yunan and Liu, Liyuan and Zhang, Minjia and Han, Jiawei and Gao, Jianfeng",
        "Model Tells You What to Discard: Adaptive {KV} Cache Compression for {LLMs}",
        2023,
        "2310.01801",
    ),
    "meng2025plphp": Paper(
        "Meng, Yu and Li, Kaiyuan and Huang, Chenran and Gao, Chen and Chen, Xinlei and Li, Yong "
        "and Zhang, Xiaoping",
        "{PLPHP}: Per-Layer Per-Head Vision Token Pruning for Efficient Large Vision-Language Models",
        2025,
        "2502.14504",
    ),
    "huang2024locret": Paper(
        "Huang, Yuxiang and Yuan, Binhang and Han, Xu and Xiao, Chaojun and Liu, Zhiyuan",
        "Locret: Enhancing Eviction in Long-Context {LLM} Inference with Trained Retaining Heads on "
        "Consumer-Grade Devices",
        2024,
        "2410.01805",
    ),
    "liu2024kivi": Paper(
        "Liu, Zirui and Yuan, Jiayi and Jin, Hongye and Zhong, Shaochen and Xu, Zhaozhuo "
        "and Braverman, Vladimir and Chen, Beidi and Hu, Xia",
        "{KIVI}: A Tuning-Free Asymmetric 2bit Quantization for {KV} Cache",
        2024,
        "2402.02750",
    ),
    "son2025nsnquant": Paper(
        "Son, Donghyun and Choi, Euntae and Yoo, Sungjoo",
        "{NSNQuant}: A Double Normalization Approach for Calibration-Free Low-Bit Vector Quantization of "
        "{KV} Cache",
        2025,
        "2505.18231",
    ),
    "li2025commvq": Paper(
        "Li, Junyan and Zhang, Yang and Hassan, Muhammad Yusuf and Chafekar, Talha and Cai, Tianle "
        "and Ren, Zhile and Guo, Pengsheng and Karimzadeh, Foroozan and Reed, Colorado and Wang, Chong "
        "and Gan, Chuang",
        "{CommVQ}: Commutative Vector Quantization for {KV} Cache Compression",
        2025,
        "2506.18879",
    ),
    "han2025balancekv": Paper(
        "Han, Insu and Kapralov, Michael and Kochetkova, Ekaterina and Sheth, Kshiteej and Zandieh, Amir",
        "Streaming Attention Approximation via Discrepancy Theory",
        2025,
        "2502.07861",
    ),
    "jha2025kvcrush": Paper(
        "Jha, Gopi Krishna and Gobriel, Sameh and Talamanova, Liubov and Kozlov, Alexander and Jain, Nilesh",
        "{KVCrush}: Key Value Cache Size-Reduction Using Similarity in Head-Behaviour",
        2025,
        "2503.00022",
    ),
    "li2024ems": Paper(
        "Li, Yingxin and Li, Ye and Meng, Yuan and Ma, Xinzhu and Geng, Zihan and Xia, Shutao and Wang, Zhi",
        "{EMS}: Adaptive Evict-then-Merge Strategy for Head-wise {KV} Cache Compression Based on "
        "Global-Local Importance",
        2024,
        "2412.08521",
    ),
    "liu2024elastic": Paper(
        "Liu, Zuyan and Liu, Benlin and Wang, Jiahui and Dong, Yuhao and Chen, Guangyi and Rao, Yongming "
        "and Krishna, Ranjay and Lu, Jiwen",
        "Efficient Inference of Vision Instruction-Following Models with Elastic Cache",
        2024,
        "2407.18121",
    ),
    "shutova2025aquakv": Paper(
        "Shutova, Alina and Malinovskii, Vladimir and Egiazarian, Vage and Kuznedelev, Denis and "
        "Mazur, Denis and Surkov, Nikita and Ermakov, Ivan and Alistarh, Dan",
        "Cache Me If You Must: Adaptive Key-Value Quantization for Large Language Models",
        2025,
        "2501.19392",
    ),
    "yang2024mikv": Paper(
        "Yang, June Yong and Kim, Byeongwook and Bae, Jeongin and Kwon, Beomseok and Park, Gunho and "
        "Yang, Eunho and Kwon, Se Jung and Lee, Dongsoo",
        "No Token Left Behind: Reliable {KV} Cache Compression via Importance-Aware Mixed Precision "
        "Quantization",
        2024,
        "2402.18096",
    ),
    "zhang2024cam": Paper(
        "Zhang, Yuxin and Du, Yuxuan and Luo, Gen and Zhong, Yunshan and Zhang, Zhenyu and Liu, Shiwei "
        "and Ji, Rongrong",
        "{CaM}: Cache Merging for Memory-efficient {LLMs} Inference",
        2024,
        venue="PMLR 235",
    ),
} | searching.PAPERS


def entry(key: str) -> str:
    """One BibTeX entry."""
    paper = PAPERS[key]
    lines = [
        f"author = {{{paper.authors}}}",
        f"title = {{{paper.title}}}",
        f"year = {{{paper.year}}}",
    ]
    if paper.arxiv:
        lines += [f"eprint = {{{paper.arxiv}}}", "archivePrefix = {arXiv}"]
    else:
        lines.append(f"howpublished = {{{paper.venue}}}")
    return f"@misc{{{key},\n  " + ",\n  ".join(lines) + "\n}"
