from locality_prior.explorer.scene import Network as Network
from locality_prior.explorer.scene import Scene as Scene
from locality_prior.explorer.scene import Sheet as Sheet
from locality_prior.explorer.scene import Wires as Wires
from locality_prior.explorer.scene import network as network
from locality_prior.explorer.scene import pack as pack
from locality_prior.explorer.widget import Explorer as Explorer
from locality_prior.explorer.widget import explore as explore
