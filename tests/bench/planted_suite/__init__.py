"""The planted suite: worlds whose pictures are made from named values, classifiers whose reliance is known, and who finds it.

Every world renders a picture from concept values and a seed, so that any concept can be set alone: truth is measured with the renderer,
while audits see pictures, a generator that was trained on pictures, and a server.
"""
