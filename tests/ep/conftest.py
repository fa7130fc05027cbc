"""The tiny converted model and the library, as the tests of the Python package have them."""

from tests.python.conftest import ep_library, tiny_model_folder  # noqa: F401
