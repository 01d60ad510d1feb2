from locality_prior.arrange.parameters import permute as permute
from locality_prior.arrange.quality import dpq as dpq
from locality_prior.arrange.similarity import by_similarity as by_similarity
from locality_prior.arrange.swaps import swap_gains as swap_gains
from locality_prior.arrange.wires import by_wires as by_wires
from locality_prior.arrange.wires import stack_by_wires as stack_by_wires
