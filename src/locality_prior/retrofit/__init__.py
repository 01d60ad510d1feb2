"""Put locality into a model that exists already: plan the change, then apply it."""

from locality_prior.retrofit.plan import Change as Change
from locality_prior.retrofit.plan import Plan as Plan
from locality_prior.retrofit.plan import localize as localize
