"""Published sets in the folders that their archives unpack to, read into manifests.

``layout`` finds pairs by path templates, ``table`` lists the sets, ``masks`` and ``polygons`` make
masks, ``splits`` keeps patients apart, and ``prepare`` is the command.
"""
