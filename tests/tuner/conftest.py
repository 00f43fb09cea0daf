from tests.runtime.conftest import engines, on_one_thread  # noqa: F401
