"""What the catalogue owes to the search for nearest vectors, and to the rounding of weights."""

from __future__ import annotations

from keyvalise.recipe.paper import Paper

PAPERS: dict[str, Paper] = {
    "badri2023hqq": Paper(
        "Badri, Hicham and Shaji, Appu",
        "Half-Quadratic Quantization of Large Machine Learning Models",
        2023,
        venue="mobiusml.github.io/hqq_blog",
    ),
    "aguerrebere2023lvq": Paper(
        "Aguerrebere, Cecilia and Bhati, Ishwar and Hildebrand, Mark and Tepper, Mariano and Willke, Ted",
        "Similarity search in the blink of an eye with compressed indices",
        2023,
        "2304.04759",
    ),
    "tepper2023leanvec": Paper(
        "Tepper, Mariano and Bhati, Ishwar Singh and Aguerrebere, Cecilia and Hildebrand, Mark "
        "and Willke, Ted",
        "{LeanVec}: Searching vectors faster by making them fit",
        2023,
        "2312.16335",
    ),
    "jegou2011pq": Paper(
        "Jegou, Herve and Douze, Matthijs and Schmid, Cordelia",
        "Product Quantization for Nearest Neighbor Search",
        2011,
        venue="IEEE TPAMI 33(1)",
    ),
    "juang1982rq": Paper(
        "Juang, Biing-Hwang and Gray, Jr., A. H.",
        "Multiple stage vector quantization for speech coding",
        1982,
        venue="ICASSP",
    ),
    "babenko2014aq": Paper(
        "Babenko, Artem and Lempitsky, Victor",
        "Additive Quantization for Extreme Vector Compression",
        2014,
        venue="CVPR",
    ),
    "liu2024retrievalattention": Paper(
        "Liu, Di and Chen, Meng and Lu, Baotong and Jiang, Huiqiang and Han, Zhenhua and Zhang, Qianxi "
        "and Chen, Qi and Zhang, Chengruidong and Ding, Bailu and Zhang, Kai and Chen, Chen and Yang, Fan "
        "and Yang, Yuqing and Qiu, Lili",
        "{RetrievalAttention}: Accelerating Long-Context {LLM} Inference via Vector Retrieval",
        2024,
        "2409.10516",
    ),
    "chen2025retroinfer": Paper(
        "Chen, Yaoqi and Zhang, Jinkai and Lu, Baotong and Zhang, Qianxi and Zhang, Chengruidong "
        "and Luo, Jingjia and Liu, Di and Jiang, Huiqiang and Chen, Qi and Liu, Jing and Ding, Bailu "
        "and Yan, Xiao and Jiang, Jiawei and Chen, Chen and Zhang, Mingxing and Yang, Yuqing and Yang, Fan "
        "and Yang, Mao",
        "{RetroInfer}: A Vector-Storage Approach for Scalable Long-Context {LLM} Inference",
        2025,
        "2505.02922",
    ),
    "tang2024quest": Paper(
        "Tang, Jiaming and Zhao, Yilong and Zhu, Kan and Xiao, Guangxuan and Kasikci, Baris and Han, Song",
        "{Quest}: Query-Aware Sparsity for Efficient Long-Context {LLM} Inference",
        2024,
        "2406.10774",
    ),
    "zhu2025sentencekv": Paper(
        "Zhu, Yuxuan and Falahati, Ali and Yang, David H. and Mohammadi Amiri, Mohammad",
        "{SentenceKV}: Efficient {LLM} Inference via Sentence-Level Semantic {KV} Caching",
        2025,
        "2504.00970",
    ),
    "wu2025louiskv": Paper(
        "Wu, Wenbo and Si, Qingyi and Pan, Xiurui and Wang, Ye and Zhang, Jie",
        "{LouisKV}: Efficient {KV} Cache Retrieval for Long Input-Output Sequences",
        2025,
        "2510.11292",
    ),
    "tang2024ltri": Paper(
        "Tang, Hongyin and Xiu, Di and Wang, Lanrui and Geng, Xiurui and Wang, Jingang and Cai, Xunliang",
        "{Ltri-LLM}: Streaming Long Context Inference for {LLMs} with Training-Free Dynamic Triangular "
        "Attention Pattern",
        2024,
        "2412.04757",
    ),
    "xiao2025actqkv": Paper(
        "Xiao, Qingfa and Wang, Jiachuan and Li, Haoyang and Deng, Cheng and Tang, Jiaqi and Li, Shuangyin "
        "and Zhang, Yongqi and Wang, Jun and Chen, Lei",
        "Activation-aware Probe-Query: Effective Key-Value Retrieval for Long-Context {LLMs} Inference",
        2025,
        "2502.13542",
    ),
    "luo2025headinfer": Paper(
        "Luo, Cheng and Cai, Zefan and Sun, Hanshi and Xiao, Jinqi and Yuan, Bo and Xiao, Wen and Hu, Junjie "
        "and Zhao, Jiawei and Chen, Beidi and Anandkumar, Anima",
        "{HeadInfer}: Memory-Efficient {LLM} Inference by Head-wise Offloading",
        2025,
        "2502.12574",
    ),
    "chen2024roargraph": Paper(
        "Chen, Meng and Zhang, Kai and He, Zhenying and Jing, Yinan and Wang, X. Sean",
        "{RoarGraph}: A Projected Bipartite Graph for Efficient Cross-Modal Approximate Nearest Neighbor "
        "Search",
        2024,
        "2408.08933",
    ),
}
