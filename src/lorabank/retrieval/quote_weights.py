"""Weights of the features that tell whether a quote answers a question (quotes.py).

Fitted by `python -m lorabank.bench.quote_fit`, with SmolLM2's tokenizer and MiniLM, on questions to
twelve passages each of 24 articles in SQuAD.
"""

from lorabank.retrieval.wording_weights import Weights

BY_WORDS = Weights(-2.185, (2.557, 2.245, -0.641, -0.681, 1.330, -2.507, -1.395))
WITH_MEANING = Weights(-4.072, (-1.236, 2.035, -0.554, -0.764, 0.833, -2.313, -1.723, 8.557, 6.283))
