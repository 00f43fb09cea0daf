"""Deployment files: what they mean, and one sentence for whatever is wrong with them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from saguaro.engine.deployment import Deployment
from saguaro.engine.deployment_file import load_deployment
from saguaro.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
PAIR = "target: {checkpoint: org/big}\ndraft: {checkpoint: org/small}\n"


@pytest.fixture
def load(tmp_path):
    def load(text: str) -> Deployment:
        file = tmp_path / "here.yaml"
        file.write_text(text)
        return load_deployment(file)

    return load


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 500
    return sentence


def test_defaults(load):
    deployment = load(PAIR)
    assert deployment.model_dump(mode="json") == {
        "target": {"checkpoint": "org/big"},
        "draft": {"checkpoint": "org/small"},
        "build": {
            "backend": "torch", "precision": "fp32", "max_batch_size": 4, "max_seq_len": 1024,
            "weights": "external", "attention": "auto", "compute_capability": [], "enforce_eager": False,
        },
        "speculation": {
            "mode": "ssd", "lookahead": 5, "budget": 24, "tree_nodes": 0, "fan_out": "adaptive",
            "verification": "coupled", "saguaro_c": 1.0, "fallback": "auto",
        },
        "placement": {"target": {"device": "auto", "threads": 1}, "draft": {"device": "auto", "threads": 1}},
    }  # fmt: skip


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_configs_in_the_repository_are_valid(file, monkeypatch):
    for name in ("LLAMA_TARGET", "LLAMA_DRAFT"):
        monkeypatch.delenv(name, raising=False)
    deployment = load_deployment(file)
    assert deployment.build.backend == ("torch" if file.stem == "demo" else "tensorrt-rtx")


def test_the_demo_configuration_names_the_demo_pair():
    deployment = load_deployment(CONFIGS / "demo.yaml")
    assert deployment.target.checkpoint == str(CONFIGS.parent / "examples" / "demo" / "target")
    assert deployment.draft.checkpoint == str(CONFIGS.parent / "examples" / "demo" / "draft")


def test_everything_that_may_be_said(load):
    deployment = load(
        PAIR + "build: {backend: tensorrt-rtx, precision: fp16, compute_capability: [8.9, '12.0'],"
        " weights: embedded, enforce_eager: true, max_batch_size: 256, max_seq_len: 1_048_576}\n"
        "speculation: {mode: sd, lookahead: 2, budget: 9, fan_out: [4, 0, 5], fallback: draft}\n"
        "placement: {target: {device: 'cuda:1', threads: 2}, draft: {device: cpu}}\n"
    )
    assert deployment.build.compute_capability == ["8.9", "12.0"]
    assert deployment.build.max_seq_len == 2**20
    assert deployment.speculation.fan_out == [4, 0, 5]
    assert deployment.placement.target.device == "cuda:1"
    assert deployment.placement.draft.threads == 1


@pytest.mark.parametrize(
    ("build", "plugin"),
    [
        ("{backend: tensorrt}", True),
        ("{backend: tensorrt, attention: plugin}", True),
        ("{backend: tensorrt, attention: native}", False),
        ("{backend: tensorrt-rtx}", False),
        ("{backend: tensorrt-rtx, attention: native}", False),
        ("{backend: torch}", False),
    ],
)
def test_attention_is_ours_where_there_are_plugins(load, build, plugin):
    assert load(PAIR + f"build: {build}\n").build.plugin_attention == plugin


def test_an_empty_section_means_the_defaults(load):
    assert load(PAIR + "build:\n  # precision: bf16\n") == load(PAIR)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("models/big", "{here}/models/big"),  # exists there, though it also looks like a hub id
        ("models/other", "models/other"),
        ("org/name@v1.0/x", "org/name@v1.0/x"),
        ("./models/other", "{here}/models/other"),
        ("../big", "{here.parent}/big"),
        ("/models/big", "/models/big"),
        ("big", "{here}/big"),
        ("a/b/c", "{here}/a/b/c"),
    ],
)
def test_paths_are_relative_to_the_file_and_hub_ids_stay(load, tmp_path, written, meant):
    (tmp_path / "models" / "big").mkdir(parents=True)
    deployment = load(f"target: {{checkpoint: '{written}'}}\ndraft: {{checkpoint: org/small}}\n")
    assert deployment.target.checkpoint == meant.format(here=tmp_path)


def test_environment(load, monkeypatch):
    monkeypatch.setenv("MODELS", "/models")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("K", "7")
    monkeypatch.setenv("COUNTS", "[1, 2, 1, 1, 1, 1, 1, 1]")
    monkeypatch.delenv("UNSET", raising=False)
    deployment = load(
        "target:\n  checkpoint: ${MODELS}/big-${K}\n"
        'draft: {checkpoint: "${UNSET:-/other}/small"}\n'
        'build: {precision: "${EMPTY:-bf16}", compute_capability: ["${CC:-8.9}"]}\n'
        'speculation: {lookahead: "${K}", fan_out: "${COUNTS}"}\n'
    )
    assert deployment.target.checkpoint == "/models/big-7"
    assert deployment.draft.checkpoint == "/other/small"
    assert deployment.build.precision == "bf16"
    assert deployment.speculation.lookahead == 7
    assert deployment.speculation.fan_out == [1, 2, 1, 1, 1, 1, 1, 1]


def test_a_number_as_a_checkpoint_from_the_environment_stays_text(load, monkeypatch):
    monkeypatch.setenv("NAME", "2026")
    text = 'target: {checkpoint: "${NAME}"}\ndraft: {checkpoint: a/b}\n'
    assert Path(load(text).target.checkpoint).name == "2026"


BAD = [
    # unknown and mistyped keys
    ("speculation: {lokahead: 3}", ["speculation.lokahead", "did you mean 'lookahead'?"]),
    ("spekulation: {lookahead: 3}", ["'spekulation'", "did you mean 'speculation'?"]),
    ("lookahead: 3", ["'lookahead'", "did you mean speculation.lookahead?"]),
    ("placement: {target: {thread: 2}}", ["placement.target.thread", "did you mean 'threads'?"]),
    ("speculation: {xyzzy: 3}", ["speculation.xyzzy", "expected one of mode, lookahead", "remove it"]),
    ("1: 5", ["the key 1"]),
    # wrong types and values
    ("build: {backend: torhc}", ["build.backend", "'torhc'", "torch, tensorrt-rtx", "did you mean 'torch'?"]),
    ("build: {backend: [torch]}", ["build.backend", "['torch']", "expected one of torch"]),
    ("build: 5", ["build is 5", "expected a mapping"]),
    ("build: {backend: }", ["build.backend is None"]),
    ("build: {precision: fp8}", ["build.precision", "'fp8'", "fp32, bf16, fp16"]),
    ("build: {precision: fp16}", ["build.precision is 'fp16'", "fp32 or bf16", "tensorrt-rtx"]),
    ("build: {max_batch_size: 0}", ["build.max_batch_size is 0", "from 1 to 256", "default: 4"]),
    ("build: {max_batch_size: 257}", ["build.max_batch_size is 257", "from 1 to 256"]),
    ("build: {max_batch_size: 1.5}", ["build.max_batch_size is 1.5", "an integer"]),
    ("build: {max_seq_len: 15}", ["build.max_seq_len is 15", "from 16 to 1048576"]),
    ("build: {max_seq_len: 1048577}", ["build.max_seq_len is 1048577"]),
    ("build: {weights: inside}", ["build.weights is 'inside'", "external, embedded"]),
    ("build: {compute_capability: 8.9}", ["build.compute_capability is 8.9", "a list"]),
    ("build: {compute_capability: [sm_89]}", ["build.compute_capability is ['sm_89']", '"8.9"']),
    ("build: {backend: tensorrt, compute_capability: [8.9]}", ["build.compute_capability is [8.9]", "builds on"]),
    ("build: {attention: plugn}", ["build.attention is 'plugn'", "auto, plugin, native", "did you mean 'plugin'?"]),
    ("build: {attention: plugin}", ["build.attention is 'plugin'", "native, as the backend torch has no plugins"]),
    (
        "build: {backend: tensorrt-rtx, attention: plugin}",
        ["build.attention is 'plugin'", "native, as the backend tensorrt-rtx has no plugins", "(default: auto)"],
    ),
    ("build: {enforce_eager: 1}", ["build.enforce_eager is 1", "true or false"]),
    ("speculation: {mode: off}", ["speculation.mode is False", "ar, sd, ssd"]),
    ("speculation: {mode: offf}", ["speculation.mode is 'offf'", "ar, sd, ssd; correct it"]),
    ("speculation: {lookahead: 0x" + "f" * 5000 + "}", ["speculation.lookahead is a number of thousands"]),
    ("speculation: {lookahead: 0}", ["speculation.lookahead is 0", "from 1 to 64"]),
    ("speculation: {lookahead: 65}", ["speculation.lookahead is 65", "from 1 to 64"]),
    ("speculation: {lookahead: '5'}", ["speculation.lookahead is '5'", "an integer"]),
    ("speculation: {lookahead: true}", ["speculation.lookahead is True", "an integer"]),
    ("speculation: {budget: 0}", ["speculation.budget is 0", "from 1 to 1024"]),
    ("speculation: {budget: 1025}", ["speculation.budget is 1025"]),
    ("speculation: {budget: .nan}", ["speculation.budget is nan"]),
    ("speculation: {fan_out: adaptve}", ["speculation.fan_out", "did you mean 'adaptive'?"]),
    ("speculation: {fan_out: [1, 2]}", ["speculation.fan_out is [1, 2]", "6 integers"]),
    ("speculation: {fan_out: [1, 2, 3, 4, 5, -1]}", ["speculation.fan_out is [1, 2, 3, 4, 5, -1]"]),
    ("speculation: {fan_out: [9, 9, 9, 9, 9, 9]}", ["speculation.fan_out", "sum", "24"]),
    ("speculation: {fan_out: [0, 0, 0, 0, 0, 0]}", ["speculation.fan_out", "sum"]),
    ("speculation: {fan_out: [1, 2, 3, 4, 5, true]}", ["speculation.fan_out"]),
    ("placement: {target: {device: gpu}}", ["placement.target.device is 'gpu'", "cuda:N"]),
    ("placement: {draft: {threads: 0}}", ["placement.draft.threads is 0", "from 1"]),
    # not in this release
    ("build: {backend: tensorrt-llm}", ["'tensorrt-llm' is not available in this release"]),
    ("speculation: {verification: rejecting}", ["speculation.verification", "did you mean 'rejection'?"]),
    ("speculation: {verification: rejection, saguaro_c: 1.5}", ["speculation.saguaro_c is 1.5", "from 0 to 1"]),
    ("speculation: {verification: rejection, saguaro_c: .nan}", ["speculation.saguaro_c is nan"]),
    ("speculation: {saguaro_c: 0.5}", ["speculation.saguaro_c is 0.5", "verification: rejection"]),
    ("speculation: {fallback: medusa}", ["speculation.fallback is 'medusa'", "ngram"]),
    # the environment
    ("x: ${SAGUARO_UNSET}", ["line 3", "SAGUARO_UNSET is not set"]),
    ("x: '${1}'", ["line 3", "${NAME}"]),
    # YAML itself
    ("build: [", ["line"]),
    ("a:\tb: c", ["line 3"]),
    ("target: {checkpoint: c/d}", ["line 3", "'target' stands there twice"]),
    ("build: {backend: torch, backend: torch}", ["line 3", "'backend' stands there twice"]),
    ("x: 2024-99-99", ["cannot be read"]),
    ("x: !!int foo", ["cannot be read"]),
    ("x: !!timestamp foo", ["cannot be read"]),
    ("x: *y", ["line 3", "alias"]),
    ("x: " + "[" * 5000, ["nested too deeply"]),
]


@pytest.mark.parametrize(("text", "parts"), BAD, ids=[text[:50] for text, _ in BAD])
def test_one_sentence_for_what_is_wrong(load, tmp_path, monkeypatch, text, parts):
    monkeypatch.delenv("SAGUARO_UNSET", raising=False)
    sentence = refusal(load, PAIR + text + "\n")
    for part in [f"{tmp_path}/here.yaml: ", *parts]:
        assert part in sentence


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["nothing in it", "target and draft"]),
        ("- target\n", ["['target']", "expected a mapping"]),
        ("target: {checkpoint: a/b}\n", ["draft is missing"]),
        ("target: {}\ndraft: {checkpoint: a/b}\n", ["target.checkpoint is missing", "org/name"]),
        ("target: a/b\ndraft: {checkpoint: a/b}\n", ["target is 'a/b'", "{checkpoint: org/name}"]),
        ("target: {checkpoint: 3}\ndraft: {checkpoint: a/b}\n", ["target.checkpoint is 3"]),
        ("target: {checkpoint: ''}\ndraft: {checkpoint: a/b}\n", ["target.checkpoint is ''"]),
    ],
)
def test_the_pair_has_to_be_there(load, text, parts):
    sentence = refusal(load, text)
    for part in parts:
        assert part in sentence


def test_yaml_makes_no_objects(load, tmp_path):
    sentence = refusal(load, PAIR + f"x: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    assert "python/object" in sentence
    assert not (tmp_path / "made").exists()


def test_aliases_do_not_multiply(load):
    """The billion laughs: 9 levels of 9 references each, refused without unfolding them."""
    levels = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 10))
    assert "'x0'" in refusal(load, PAIR + "x0: &x0 ha\n" + levels)


@pytest.mark.parametrize(
    ("content", "part"),
    [(None, "no such file"), (b"\xff\xfe\x00", "not UTF-8"), (b"#" * 2**20 + b"#", "larger than 1 MiB")],
)
def test_no_deployment_file(tmp_path, content, part):
    file = tmp_path / "x.yaml"
    if content is not None:
        file.write_bytes(content)
    sentence = refusal(load_deployment, file)
    assert part in sentence
    assert str(file) in sentence


def test_a_directory_is_no_deployment_file(tmp_path):
    assert "a directory" in refusal(load_deployment, tmp_path)


def test_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deployment = Deployment.from_options(target="./big", draft="org/small", lookahead=3, precision=None)
    assert deployment.target.checkpoint == str(tmp_path / "big")
    assert deployment.draft.checkpoint == "org/small"
    assert deployment.speculation.lookahead == 3
    assert deployment.build.precision == "fp32"


def test_options_take_the_place_of_a_files_fields(load):
    base = load(PAIR + "build: {precision: bf16, max_batch_size: 2}\n")
    changed = Deployment.from_options(base, precision="fp32", draft="/small", compute_capability=["8.9"])
    assert changed.build.precision == "fp32"
    assert changed.build.max_batch_size == 2
    assert changed.draft.checkpoint == "/small"
    assert changed.target == base.target
    assert base.build.precision == "bf16"


def test_a_files_hub_id_stays_one_wherever_the_build_runs(load, tmp_path, monkeypatch):
    base = load(PAIR)
    (tmp_path / "elsewhere" / "org" / "big").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Deployment.from_options(base, lookahead=2).target.checkpoint == "org/big"
    assert Deployment.from_options(base, target="org/big").target.checkpoint == str(
        tmp_path / "elsewhere" / "org" / "big"
    )


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"lookahead": 0}, ["lookahead is 0", "from 1 to 64"]),
        ({"budget": 2000}, ["budget is 2000", "from 1 to 1024"]),
        ({"backend": "tensorrt-llm"}, ["backend 'tensorrt-llm' is not available in this release"]),
        ({"backend": "tensorrt_rtx"}, ["backend is 'tensorrt_rtx'", "did you mean 'tensorrt-rtx'?"]),
        ({"backend": "tensorrt-rtx", "attention": "plugin"}, ["attention is 'plugin'", "has no plugins"]),
        ({"precision": "fp16"}, ["precision is 'fp16'", "fp32 or bf16"]),
        ({"max_seq_len": "many"}, ["max_seq_len is 'many'", "an integer"]),
        ({"compute_capability": ["89"]}, ["compute_capability is ['89']"]),
    ],
)
def test_options_are_called_by_their_own_names(options, parts):
    sentence = refusal(Deployment.from_options, target="a/b", draft="c/d", **options)
    assert sentence.startswith(parts[0])
    for part in parts:
        assert part in sentence


def test_mutations_of_a_file_load_or_are_refused_in_a_sentence(load):
    text = (CONFIGS / "demo.yaml").read_text()
    generator = random.Random(0)
    pieces = [*":{}[]\t\n'\"\x009#~!", "&a ", "*a", "- ", "${"]
    sentences = []
    for _ in range(300):
        mutated = list(text)
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(mutated))
            mutated[place : place + generator.randint(0, 3)] = generator.choice(pieces)
        try:
            load("".join(mutated))
        except ConfigError as error:
            sentences.append(str(error))
    assert len(sentences) > 100
    assert not any("\n" in sentence for sentence in sentences)
