"""From the data set of all sites to detectors: `learn.learn` trains every way that is asked for, `learned.Learned` is what comes out.

`configured` says what the configuration asks of a model, `trainer` trains and fits one way, `federated` is what sites do together and what is to be said of it.
"""
