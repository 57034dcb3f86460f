import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

from pipeline.config import file_config, load_config, named_sites
from pipeline.config.change import changed
from pipeline.config.durations import format_duration, parse_duration
from pipeline.config.reference import render
from pipeline.errors import ConfigError

SITE = '[[sites]]\nname = "a"\n'


def read(tmp_path: Path, text: str, environment: dict[str, str] | None = None):
    path = tmp_path / "fedplant.toml"
    path.write_text(text)
    return load_config(path, environment or {})


def test_the_smallest_file_is_one_site_and_every_default(tmp_path):
    config = read(tmp_path, SITE)
    assert [site.telemetry_topic for site in config.sites] == ["iiot.a.telemetry.v1"]
    assert config.ingestion.window == 60.0
    assert config.project.data_dir == tmp_path / "fedplant-data"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rounds = 3\n" + SITE, "rounds: unknown key; allowed here: dataset, detector"),
        ("", "sites: missing, but required"),
        (SITE + "[ingestion]\nwindow = 60", "ingestion.window = 60: there is no unit; write a number"),
        (SITE + "[ingestion]\nwindow = '60'", "ingestion.window = '60': there is no unit; write a number"),
        (SITE + "[ingestion]\nwindow = '2 weeks'", "ingestion.window = '2 weeks': unit 'weeks' is not known"),
        (SITE + "[ingestion]\nwindow = '-5s'", "ingestion.window = '-5s': not a duration"),
        (
            SITE + "[ingestion]\nwnidow = '5s'",
            "ingestion.wnidow: unknown key; allowed here: allowed_lateness",
        ),
        (
            SITE + "[ingestion]\ntime_zone = 'Mars/Olympus'",
            "ingestion.time_zone = 'Mars/Olympus': not an IANA",
        ),
        (
            SITE + "[ingestion]\ngroup = 'Werk Süd'",
            "ingestion.group = 'Werk Süd': a consumer group's name is 1-1000 printable ASCII characters",
        ),
        (
            SITE + "[scoring]\ngroup = ''",
            "scoring.group = '': a consumer group's name is 1-1000 printable ASCII characters",
        ),
        (
            SITE + "[ingestion]\ngroup = 'g'\n[scoring]\ngroup = 'g'",
            "ingestion.group and scoring.group are both 'g'",
        ),
        (SITE + "[dataset]\nstep = 'often'", "dataset.step = 'often': not a duration"),
        (SITE + "[training]\nrounds = true", "training.rounds = True: true is not a number; write one"),
        (
            SITE + "[training]\nclip_updates = false",
            "training.clip_updates = False: false is not a number; write one",
        ),
        (
            SITE + "[model]\ndilations = [1, true]",
            "model.dilations = [1, True]: true is not a number; write one",
        ),
        (SITE + "[training]\nrounds = 0", "training.rounds = 0: Input should be greater than or equal to 1"),
        (SITE + "[training]\nclient_learning_rate = nan", "training.client_learning_rate = nan"),
        (
            SITE + "[training]\nclient_optimizer = 'lion'",
            "training.client_optimizer = 'lion': Input should be 'adam'",
        ),
        (SITE + "[model]\nsteps = 20", "steps 20 must exceed the TCN's receptive field 31"),
        (SITE + SITE, "two sites have the same name 'a'"),
        ('[[sites]]\nname = "../a"', "sites.0.name = '../a': a site or topic name is letters"),
        (SITE + "[kafka]\nsasl_mechanism = 'PLAIN'", "sasl_mechanism PLAIN needs security_protocol"),
        (SITE + "[kafka]\nbootstrap = 'k:1'\nsecurity_protocol = 'SASL_SSL'", "needs sasl_mechanism"),
        (SITE + "[kafka]\npassword = 'hunter2'", "kafka.password: secrets do not belong in this file"),
        (
            SITE + "[ingestion.sensors.'a.b']\nunit = 'frob'\nto = 'bar'",
            "ingestion.sensors.a.b.unit = 'frob': unit 'frob' is not known; write a unit such as 'degC'",
        ),
        (
            SITE + "[ingestion.sensors.t]\nunit = 'bar'\nto = 'degC'",
            "ingestion.sensors.t: 'bar' ([mass] / [length] / [time] ** 2) cannot become 'degC' ([temperature]); allowed are",
        ),
        (
            SITE + "[sites.sensors.t]\nunit = 'rpm'\nto = 'Hz'",
            "sites.0.sensors.t: 'rpm' to 'Hz': one counts angle",
        ),
        (SITE + "[ingestion.sensors.t]\nunit = 'bar'", "ingestion.sensors.t: unit and to go together"),
        (
            SITE + "[ingestion.sensors.t]\nunti = 'bar'",
            "ingestion.sensors.t.unti: unknown key; allowed here: max, min",
        ),
        (SITE + "[ingestion.sensors.t]\nmin = 3\nmax = 1", "ingestion.sensors.t: min 3 is above max 1"),
        (
            SITE + "[ingestion.sensors.t]\nname = 'offset'",
            "ingestion.sensors.t: name 'offset': expected up to 256",
        ),
        ("sites = [", "not TOML"),
    ],
)
def test_a_refused_key_is_named_with_its_value_and_what_is_allowed(tmp_path, text, expected):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_every_mistake_is_reported_at_once_one_line_each(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, SITE + "[training]\nrounds = 0\nbatch = 0\n[detector]\nfalse_alarm_rate = 2.0")
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1].split(" = ")[0] for line in lines] == [
        "training.rounds",
        "training.batch",
        "detector.false_alarm_rate",
    ]


def test_environment_variables_go_over_the_file(tmp_path):
    environment = {
        "FEDPLANT_KAFKA__BOOTSTRAP": "broker:9092",
        "FEDPLANT_TRAINING__ROUNDS": "7",
        "FEDPLANT_INGESTION__WINDOW": "5min",
        "FEDPLANT_KAFKA_PASSWORD": "hunter2",
    }
    config = read(tmp_path, SITE + "[training]\nrounds = 3", environment)
    assert (config.kafka.bootstrap, config.training.rounds, config.ingestion.window) == (
        "broker:9092",
        7,
        300.0,
    )
    assert "hunter2" not in repr(config)


def test_a_misspelt_environment_variable_is_refused_and_not_ignored(tmp_path):
    with pytest.raises(ConfigError, match=r"FEDPLANT_KAFKA__BOOTSTRP: there is no key kafka\.bootstrp"):
        read(tmp_path, SITE, {"FEDPLANT_KAFKA__BOOTSTRP": "x"})


NO_TIME = "not a time; write it as 2026-03-01T06:00:00Z"
"""What is said of a time that is none, wherever it stands."""


@pytest.mark.parametrize("zone", ["", '[ingestion]\ntime_zone = "Europe/Berlin"\n'])
@pytest.mark.parametrize(
    "written",
    ["1700000000", "1700000000000", "1.7e9", "20240101", "2024", "-1", "0", "true", "nan", "inf", "-inf"],
)
def test_a_number_is_no_time_bare_or_in_quotes(tmp_path, zone, written):
    for value in (written, f'"{written}"', f'" {written} "'):
        said = value.strip('"') if '"' in value else ""
        whole_day = f"[[dataset.leave_out]]\nfrom = {value}\nto = {value}\n"
        with pytest.raises(ConfigError) as caught:
            read(tmp_path, f"{SITE}{zone}[dataset]\ntrain_until = {value}\n{whole_day}")
        lines = str(caught.value).splitlines()
        assert [line.split(": ")[1].split(" = ")[0] for line in lines] == [
            "dataset.train_until",
            "dataset.leave_out.0.from",
            "dataset.leave_out.0.to",
        ]
        assert all(line.endswith(NO_TIME) and said in line for line in lines)


@pytest.mark.parametrize("written", ["20240101", "'1700000000'", "nan"])
def test_a_number_is_no_time_in_the_environment_either(tmp_path, written):
    with pytest.raises(ConfigError, match=NO_TIME):
        read(tmp_path, SITE, {"FEDPLANT_DATASET__TRAIN_UNTIL": written})


@pytest.mark.parametrize("written", ["2026-03-01T10", "2026-03-01T10:00+0000", "2026-03-01t10:00:00.0z"])
def test_a_time_is_read_the_same_with_and_without_a_zone_in_the_file(tmp_path, written):
    text = f'[dataset]\ntrain_until = "{written}"\n'
    expected = datetime(2026, 3, 1, 10, tzinfo=timezone.utc)
    for zone in ("", '[ingestion]\ntime_zone = "Africa/Abidjan"\n'):
        assert read(tmp_path, SITE + zone + text).dataset.train_until == expected


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError, match="no such file; `fedplant init`"):
        load_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("5min", 300), ("6h", 21600), ("7d", 604800)]
)
def test_durations_read_back_as_written(text, seconds):
    assert parse_duration(text) == seconds
    assert format_duration(seconds) == text


def test_the_reference_in_docs_is_what_the_code_says():
    committed = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text()
    assert committed == render(), "run `fedplant config reference > docs/reference/configuration.md`"


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (
            "[recipes.x]\ndetector.sauces = []\n",
            "recipes.x: detector.sauces: unknown key; allowed here: alarms_per_week,",
        ),
        ('[recipes.x]\ndetector.sources = ["pcb"]\n', "recipes.x: detector.sources = 'pcb':"),
        (
            "[recipes.x]\nkafka.bootstrap = 'b:1'\n",
            "recipes.x.kafka: unknown key; allowed here: detector, mode, model, training",
        ),
        ("[recipes.x]\ntraining.aggregation = 'krum'\ntraining.privacy = 'tree'\n", "recipes.x: training"),
        (
            "[recipes.'my recipe']\nmode = 'local'\n",
            "toml: recipes.my recipe: a recipe's name is letters, digits,",
        ),
        ("[recipes.x]\ndetector.averages = ['0s']\n", "toml: recipes.x: detector: averages hold 0"),
    ],
)
def test_a_recipe_is_checked_when_the_file_is_read(tmp_path, recipe, line):
    path = tmp_path / "fedplant.toml"
    path.write_text('[[sites]]\nname = "a"\n' + recipe)
    with pytest.raises(ConfigError, match=re.escape(line)):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[training]\nstatistics_noise = 1.0\n",
            "dataset.share_scale: the sums of scales are shared without noise",
        ),
        (
            '[dataset]\nshare_scale = false\n[training]\nstatistics_noise = 1.0\n[detector]\nsources = ["pca"]\n',
            "without a ridge in detector.sources: no statistics are shared",
        ),
        (
            '[training]\npersonalise = "head"\n[detector]\nsources = ["pca"]\n',
            "there is no network to make one's own",
        ),
        ('[training]\nclusters = 2\n[detector]\nsources = ["pca"]\n', "training.clusters without network"),
        ('[training]\npersonalise = "ditto"\nclusters = 2\n', "a site has its own model or its group's"),
        ("[model]\ndilations = [1, 0]\n", "model: dilations [1, 0]: expected whole numbers from 1 on"),
        ("[model]\nhidden = []\n", "model: hidden []: expected one width or more, from 1 on"),
        (
            '[model]\narchitecture = "autoencoder"\nhidden = [32, -4]\n',
            "model: hidden [32, -4]: expected one width",
        ),
        ("[dataset]\nstep = '0s'\n", "dataset: step is 0; give a duration such as '10s', or 'auto'"),
        ("[dataset]\nmax_gap = '0s'\n", "dataset: max_gap is 0; give a duration"),
        ("[recipes.x]\nmodel.dilations = [-1]\n", "recipes.x: model: dilations [-1]: expected whole"),
        (
            '[training]\npersonalise = "head"\nprivacy = "gaussian"\nclip_updates = 1.0\n',
            "so the budget would be untrue",
        ),
        (
            '[training]\nclusters = 3\nprivacy = "gaussian"\nclip_updates = 1.0\n',
            "so the budget would be untrue",
        ),
    ],
)
def test_what_cannot_go_together_is_refused_with_the_reason(tmp_path, text, line):
    with pytest.raises(ConfigError, match=re.escape(line)):
        read(tmp_path, SITE + text)


def test_the_site_that_stands_in_for_those_of_files_is_none_that_somebody_named(tmp_path):
    assert named_sites(file_config(None)) == ()
    path = tmp_path / "fedplant.toml"
    path.write_text("[dataset]\nstep = '1min'\n")
    assert named_sites(file_config(path)) == ()
    path.write_text("[[sites]]\nname = 'east'\n")
    assert named_sites(file_config(path)) == ("east",)


def test_the_network_s_context_binds_no_detector_without_one(tmp_path):
    text = SITE + "[model]\nsteps = 20\n[detector]\nsources = ['ridge', 'pca']"
    config = read(tmp_path, text)
    assert config.model.steps == 20
    with pytest.raises(ConfigError, match=r"model\.steps 20 must exceed the TCN's receptive field 31"):
        changed(config, {"detector": {"sources": ["ridge", "network"]}})
    assert changed(config, {"model": {"steps": 8}}).model.steps == 8
