"""What all tests share: a property has no deadline, since a busy machine is not a failure."""

from hypothesis import settings

settings.register_profile("rockets", deadline=None)
settings.load_profile("rockets")
