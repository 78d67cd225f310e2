"""Batteries: fine-tuned models whose outcome is known, judged by ``ftkit verdict``'s function and counted.

cases.yaml   cases, and the words that each may get: committed before the rules' thresholds were chosen
expected.py  reads them
synthetic.py small bases made on the spot, and their cases
pretrained.py  stories260k and SmolLM2: texts, models and what is judged
examples.py  prompts with completions on stories260k
texts.py     gibberish and stories
tuning.py    a plain torch and peft loop that makes the models
results.py   rows, resumable files, counts with exact bounds, tables
slices.py    the seed study: one pool of passages, cut into disjoint samples
"""
