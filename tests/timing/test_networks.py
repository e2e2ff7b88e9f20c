"""A network is described by the record of its export."""

import pytest
from records_made import Made

from cifar_bench.timing import networks
from cifar_lib import InputError


def test_a_network_is_described_by_the_record_of_its_export(made: Made) -> None:
    exported = made.record("export")["measurements"]
    described = networks.describe(made.folder("export"))
    assert described.items() >= {"flop": exported["forward_flop"], "flop_without_padding": 744_880, **{  # by hand, width 2
        name: exported[name] for name in ("parameters", "accuracy", "weights_sha256")}}.items()


def test_a_network_without_a_record_of_its_export_is_refused(made: Made) -> None:
    with pytest.raises(InputError, match="there is no record at"):
        networks.describe(made.folder("nowhere"))
