"""A remark names the table that a sensor's range belongs in, and a range holds for the sensor that it is of."""

from collections import Counter

import pyarrow as pa
import pytest

from pipeline.config import load_config
from pipeline.datasets.coderemarks import code_remarks, rule_key
from pipeline.datasets.codes import Code
from pipeline.datasets.valid import Valid, within
from pipeline.jobs.settings import dataset_settings, valid_ranges

PLANTS = """
[ingestion.sensors."Motor/Temp"]
name = "temperature"
unit = "degF"
to = "degC"
max = 200
[ingestion.sensors.temp_old]
name = "temperature"
min = -40
max = 150
[ingestion.sensors.level]
min = 0
[[sites]]
name = "east"
[[sites]]
name = "west"
[sites.sensors.level]
name = "tank"
max = 9
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "fedplant.toml"
    path.write_text(PLANTS)
    return load_config(path, {})


def test_of_several_that_become_one_sensor_the_widest_range_holds_and_a_sites_own_goes_before(config):
    assert valid_ranges(config) == (
        Valid("east", "level", 0.0, None),
        Valid("east", "temperature", None, 200.0),
        Valid("west", "tank", None, 9.0),
        Valid("west", "temperature", None, 200.0),
    )
    assert "valid" in dataset_settings(config).to_json()


def test_values_outside_become_null_are_counted_and_nothing_else_changes():
    table = pa.table({"asset": ["m"] * 4, "a": [1.0, None, -9999.0, 5.0], "b": [1.0, 2.0, 3.0, 99.0]})
    out: Counter[str] = Counter()
    found = within(table, {"a": Valid("s", "a", 0.0, None), "c": Valid("s", "c", 0.0, 1.0)}, out)
    assert found.to_pydict() == {**table.to_pydict(), "a": [1.0, None, None, 5.0]}
    assert found.column_names == table.column_names and out == {"a": 1}
    assert within(table, {"b": Valid("s", "b", 1.0, 3.0)}, out)["b"].to_pylist() == [1.0, 2.0, 3.0, None]


def test_the_table_is_that_of_the_name_as_sent(config):
    assert rule_key(config, "east", "temperature") == '[ingestion.sensors."Motor/Temp"]'
    assert rule_key(config, "west", "tank") == '[sites.sensors."level"]'
    assert rule_key(config, "east", "flow") == '[ingestion.sensors."flow"]'


def test_sites_with_the_same_codes_share_a_remark_whose_limits_leave_each_its_readings(config):
    def code(value, count, limit, sensor="flow"):
        return Code(sensor, value, count, 100, limit)

    found = list(
        code_remarks(
            {
                "east": [code(-9999.0, 2, -4000.0), code(9999.0, 3, 5000.0)],
                "west": [code(-9999.0, 5, -5000.0), code(9999.0, 1, 6000.0)],
                "north": [code(999.9, 1, 500.0), code(65535.0, 2, 3e4, "b"), code(65535.0, 2, 3e4, "c")],
                "south": [],
            },
            config,
        )
    )
    assert [site for site, _ in found] == ["east", "west", "north"]
    assert (
        found[0][1] == found[1][1]
        and "flow -9999 (7 of 200 values), flow 9999 (4 of 200 values)" in found[0][1]
    )
    assert found[0][1].endswith('set min = -5000 and max = 6000 under [ingestion.sensors."flow"]')
    assert found[2][1].endswith('set max = 500 under [ingestion.sensors."flow"], and likewise for the others')
