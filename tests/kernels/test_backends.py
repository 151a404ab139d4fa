from __future__ import annotations

import pytest

from spikenet.errors import BackendError, UnknownNameError
from spikenet.kernels.backends import LARGE, Implementation, Operation, use_backend


def table() -> Operation:
    return Operation(
        "double",
        Implementation("triton", lambda x: "there is no GPU" if x < 100 else None, lambda x: ("triton", 2 * x)),
        Implementation("numba", lambda x: "it is odd" if x % 2 else None, lambda x: ("numba", 2 * x)),
        Implementation("reference", lambda x: None, lambda x: ("reference", 2 * x)),
    )


def test_the_first_that_can_runs() -> None:
    assert table()(100) == ("triton", 200)
    assert table()(2) == ("numba", 4)
    assert table()(3) == ("reference", 6)
    assert table().reasons(3) == {"triton": "there is no GPU", "numba": "it is odd", "reference": None}


def test_forcing_lasts_for_the_block_or_for_good() -> None:
    with use_backend("reference"):
        assert table()(2) == ("reference", 4)
        with use_backend(None):
            assert table()(2) == ("numba", 4)
        assert table()(2) == ("reference", 4)
    assert table()(2) == ("numba", 4)
    use_backend("reference")
    assert table()(2) == ("reference", 4)
    use_backend(None)
    assert table()(2) == ("numba", 4)


def test_a_forced_backend_that_cannot_run_raises_with_its_reason() -> None:
    with (
        use_backend("numba"),
        pytest.raises(BackendError, match="double: the backend 'numba' was forced, but it is odd"),
    ):
        table()(3)
    with pytest.raises(UnknownNameError, match="Did you mean 'numba'"):
        use_backend("nunba")


def test_the_reference_on_large_input_warns_once_with_the_reasons() -> None:
    operation = table()
    with pytest.warns(UserWarning, match="slow reference backend. triton: there is no GPU; numba: it is odd"):
        operation(3, size=LARGE)
    operation(3, size=LARGE)


def test_a_kernel_that_fails_raises() -> None:
    def fails(x: int) -> None:
        raise RuntimeError("out of registers")

    operation = Operation(
        "f", Implementation("numba", lambda x: None, fails), Implementation("reference", lambda x: None, abs)
    )
    with pytest.raises(RuntimeError, match="out of registers"):
        operation(1)
