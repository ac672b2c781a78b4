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
}
