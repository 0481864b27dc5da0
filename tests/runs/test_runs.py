"""Settings of a run that cannot be read."""

import pytest
from conftest import tiny_config

from mcattn_tf import runs
from mcattn_tf.errors import UserError


def refused(directory):
    with pytest.raises(UserError) as raised:
        runs.read_config(directory)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_settings_in_another_encoding_are_named_with_their_line(tmp_path):
    path = tmp_path / runs.CONFIG
    path.write_bytes('{"data":\n {"data_dir": "/Gebäude"}}'.encode("latin1"))
    assert refused(tmp_path) == f"{path}, line 2: expected text in UTF-8"


def test_settings_that_the_system_cannot_read_are_named(tmp_path):
    path = tmp_path / runs.CONFIG
    path.symlink_to("/proc/self/mem")  # nothing is at its first address, whoever asks
    assert refused(tmp_path) == f"cannot read {path}: Input/output error"


def test_a_name_that_no_directory_can_have_is_said_to_be(tmp_path):
    directory = tmp_path / ("x" * 300)
    assert refused(directory) == f"cannot read {directory / runs.CONFIG}: File name too long"


def test_a_directory_without_settings_is_no_run(tmp_path):
    for directory in (tmp_path, str(tmp_path)):
        message = f"{tmp_path} is not a run directory: it has no config.json"
        assert refused(directory).startswith(message)


def test_findings_that_are_gone_are_named(tmp_path):
    runs.create(tmp_path, tiny_config())
    (tmp_path / runs.FINDINGS).unlink()
    assert refused(tmp_path) == f"{tmp_path} has no findings.json; put it back, or train again"
