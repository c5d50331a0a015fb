"""The encoder as a graph that another library computes, faster than torch on processors.

One file is one step: `choice.py` says which library, `graph_file.py` keeps the graph on disk,
`export.py` makes it in a process of its own, `session.py` opens it, `encoder.py` takes it into use
once it has said the same as torch.
"""
