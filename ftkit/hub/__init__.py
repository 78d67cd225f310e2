"""Moving and sharing: a run as one zip, a model on the Hugging Face Hub with a card that shows its evidence.

The parts are imported by their modules, so that unpacking a zip loads neither torch nor the Hub's client.
"""
