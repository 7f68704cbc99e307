"""The format of a dump and its files: what is written is read, and what is broken or of another format is named."""

import gzip
import json

import pytest
from rollout_dumps import rollout_part, trainer_part

from slime_tau2.dumps import arrays
from slime_tau2.dumps.format import CLASSES, FORMAT, fields
from slime_tau2.dumps.store import ROLLOUT, Dump
from slime_tau2.errors import ConfigError


def test_arrays_are_what_was_packed():
    ids, numbers = [0, 7, 151_935], [-0.0, -1.5, float("-inf")]
    assert (
        arrays.unpack_ids(arrays.pack_ids(ids)) == ids and arrays.unpack_floats(arrays.pack_floats(numbers)) == numbers
    )
    assert arrays.unpack_ids(arrays.pack_ids([])) == []
    assert arrays.checksum([1, 2]) != arrays.checksum([2, 1])
    for text, why in (("AAA", "not base64"), ("AAAA", "no whole number")):
        with pytest.raises(ValueError, match=why):
            arrays.unpack_floats(text)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda k: k.__name__)
def test_every_field_says_what_it_is(kind):
    assert all(fields(kind).values()) and len(fields(kind)) == len(kind.__annotations__)


def test_what_is_written_is_read(tmp_path):
    dump = Dump(tmp_path / "tau2_rollouts")
    assert dump.written() == []
    for rollout in (1, 0):
        dump.write_rollout(rollout_part(rollout))
    before = dump.stamp(1)
    dump.write_trainer(trainer_part(1), rank=4)
    assert dump.written() == [0, 1] and dump.stamp(1) != before
    assert json.loads(json.dumps(rollout_part(1))) == json.loads(json.dumps(dump.rollout(1)))
    assert dump.trainers(1) == [trainer_part(1)] and dump.trainers(0) == []
    assert not list(tmp_path.rglob(".*")), "nothing is left beside"


def test_a_rollout_that_is_made_again_drops_what_trainers_said_of_the_first_try(tmp_path):
    dump = Dump(tmp_path)
    dump.write_rollout(rollout_part(0))
    dump.write_trainer(trainer_part(0), rank=0)
    dump.write_rollout(rollout_part(0))
    assert dump.trainers(0) == []


def test_half_a_file_is_no_rollout_yet(tmp_path):
    """A writer that was killed leaves its staging file, and no other."""
    dump = Dump(tmp_path)
    (tmp_path / "00000003").mkdir()
    (tmp_path / "00000003" / f".{ROLLOUT}.host.1").write_bytes(b"\x1f\x8b")
    (tmp_path / "notes").mkdir()
    assert dump.written() == []


WHOLE = gzip.compress(json.dumps(rollout_part(0)).encode())
BROKEN = {
    "cut off": (WHOLE[:-40], "not a whole gzip file"),
    "no gzip": (b"hello", "not a whole gzip file"),
    "no JSON": (gzip.compress(b"{"), "not JSON"),
    "a list": (gzip.compress(b"[]"), "of format None"),
    "of a later format": (gzip.compress(json.dumps({**rollout_part(0), "format": FORMAT + 1}).encode()), "of format 2"),
    "without its groups": (
        gzip.compress(json.dumps({k: v for k, v in rollout_part(0).items() if k != "groups"}).encode()),
        "groups: Field required",
    ),
    "a number that is text": (gzip.compress(json.dumps({**rollout_part(0), "seconds": "1"}).encode()), "seconds"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(tmp_path, name):
    data, why = BROKEN[name]
    dump = Dump(tmp_path)
    dump.write_rollout(rollout_part(0))
    (tmp_path / "00000000" / ROLLOUT).write_bytes(data)
    with pytest.raises(ConfigError, match=why) as error:
        dump.rollout(0)
    assert str(tmp_path / "00000000" / ROLLOUT) in str(error.value)


def test_a_rollout_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        Dump(tmp_path).rollout(0)
