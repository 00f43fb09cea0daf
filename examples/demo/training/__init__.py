"""How the demo pair was made, one idea a file: corpus, vocabulary, model, optimiser, pretraining, ..."""
