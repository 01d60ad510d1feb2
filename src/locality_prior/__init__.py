"""Spatially embedded neural networks: give units places, make long wires expensive, look at the map.

Where units sit (geometries):
    Grid, Line, HexGrid     a regular sheet of any number of axes, a row or ring, a hexagonal sheet
    Sphere, Points          evenly spread places on a sphere; places at given coordinates
    Mesh                    distances along a surface, such as the cortex
    Graph, Distances        distances along the edges of a graph; measured distances
    Wired                   measured wiring, such as a connectome, between units that have places
    Shuffled                the null model: another geometry's distances, dealt out at random
    Geometry                what all of them are; subclass it for one of your own

Layers whose wires cost something:
    LocalityLinear, LocalityConv2d, LocalityRNN, LocalityGRU, LocalityLSTM, LocalityMultiheadAttention
                            torch's layers of the same names with the effective weights V = P∘W
    LocalityConv1D          the same for GPT-2's linear layer, the Conv1D of the transformers library
    Prior                   the prior P, from source, target and cost
    cost                    costs c(d) of a wire of length d: cost.Linear, cost.Gaussian, …
    fold                    turn locality layers back into plain torch
    save, load              a model's weights with its geometries and costs, in one file

Models that exist already:
    localize, plan          replace a model's layers by locality layers; see first what will change
    place, Placement        say which modules lie on which geometry; read their weights and activations by unit
    sparsify                cut the wires that are not worth their length

What to train with, and what to measure:
    wiring_cost, weight_l1  the price of all wires, Σ c|V|; the L1 norm of the raw weights
    mean_wire_length        the mean length of the wires, Σ d|V| / Σ|V|
    arrange                 better places: which unit sits where, for short wires or like neighbours
    objectives              training objectives of the literature (TopoLoss, spatial correlation, …), to add to a loss
    analysis, plots         measures of maps and wires; figures of them
    explore                 look at sheets unit by unit, in a notebook or on a page
    runs, studies, report   training runs, comparisons of them, and their page

Underneath: functional (the layer's equation on tensors), geometry (all geometries and their helpers).
"""

from locality_prior._lazy import attach

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = attach(__name__, __file__)
