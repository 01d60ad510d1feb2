"""Put locality into a model that is there already: plan → apply. W = V / P, so the model's function stays."""

from locality_prior.retrofit.plan import Change as Change
from locality_prior.retrofit.plan import Plan as Plan
from locality_prior.retrofit.plan import localize as localize
from locality_prior.retrofit.plan import plan as plan
