"""FSDD and Speech Commands through a cochlea that can be counted by hand."""

from __future__ import annotations

import struct
import wave
import zlib
from dataclasses import dataclass

import pytest
import torch

from spikenet.data import FSDD, SpeechCommands
from spikenet.data.audio import read_wav
from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import EventStream, Sensor

HEARD = []


@dataclass(frozen=True)
class Ear:
    """Channel = sample / 16 where a sample is not 0; a last spike tells the seed."""

    gain: int = 1

    def __call__(self, waveform, rate, seed):
        HEARD.append(seed)
        (place,) = waveform.nonzero(as_tuple=True)
        t = torch.cat([place * 1_000_000 // rate, torch.tensor([10**6 + seed])])
        x = torch.cat([(waveform[place] * 2048 * self.gain).int(), torch.tensor([699], dtype=torch.int32)])
        return EventStream.from_numpy(t.numpy(), x.numpy(), sensor=Sensor(700))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    HEARD.clear()
    monkeypatch.setenv("SPIKENET_CACHE", str(tmp_path / "cache"))


def sound(path, samples, rate=8000, width=2, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def digits(root, numbers):
    for digit in range(10):
        for number in numbers:
            sound(root / f"recordings/{digit}_theo_{number}.wav", [0, 16 * (digit + 1), 0, 16 * (number + 1)])
    return root


def test_samples(tmp_path):
    sound(tmp_path / "a.wav", [0, 16384, -32768, 32767])
    waveform, rate = read_wav(tmp_path / "a.wav")
    assert (waveform.tolist(), rate) == ([0.0, 0.5, -1.0, 32767 / 32768], 8000)


def test_fsdd_has_its_official_parts(tmp_path):
    module = FSDD(digits(tmp_path, [0, 4, 5, 44, 45, 49]), pool=1, cochlea=Ear())
    assert module.sizes == {"train": 20, "val": 20, "test": 20}
    assert module.name == "FSDD"
    assert module.raw("test").labels.tolist() == [digit for digit in range(10) for _ in range(2)]
    stream, label = module.raw("test")[13]
    seed = zlib.crc32(b"6_theo_4.wav")
    assert label == 6
    assert list(zip(stream.t.tolist(), stream.x.tolist(), strict=True)) == [(125, 7), (375, 5), (10**6 + seed, 699)]


def test_neighbouring_channels_are_joined(tmp_path):
    module = FSDD(digits(tmp_path, [0, 10, 45]), cochlea=Ear())
    assert module.feature_shape == (140,)
    assert module.raw("test")[9][0].x.tolist() == [10 // 5, 1 // 5, 699 // 5]
    with pytest.raises(ArgumentError, match="pool wants 1 to 700, received 0"):
        FSDD(tmp_path, pool=0)


def test_without_a_test_part_one_is_held_out(tmp_path):
    module = FSDD(digits(tmp_path, [5, 6, 7, 8, 9, 45, 46]), cochlea=Ear())
    assert module.sizes == {"train": 40, "val": 20, "test": 10}
    assert module.name == "FSDD, own test part of 20%"


def test_every_sound_is_heard_once_for_each_setting(tmp_path):
    root = digits(tmp_path / "data", [0, 10, 45])
    FSDD(root, cochlea=Ear()).prepare()
    assert len(HEARD) == 30
    before = [FSDD(root, cochlea=Ear(), seed=3).raw("val")[k][0].t.tolist() for k in range(10)]
    assert len(HEARD) == 30
    assert len(set(HEARD)) == 30
    assert FSDD(root, cochlea=Ear(gain=2)).raw("val")[0][0].x.tolist() == [2 // 5, 92 // 5, 139]
    assert len(HEARD) == 31
    for path in root.rglob("*.wav"):
        path.touch()
    assert [FSDD(root, cochlea=Ear()).raw("val")[k][0].t.tolist() for k in range(10)] == before
    assert len(HEARD) == 41  # files that may have changed are heard again
    for path in root.rglob("*.wav"):
        path.write_bytes(b"")
    with pytest.raises(FormatError, match=r"\.wav"):
        FSDD(root, cochlea=Ear()).raw("val")[0]


def test_folders_with_the_same_names_do_not_share_a_cache(tmp_path):
    first, second = (digits(tmp_path / name, [0, 10, 45]) for name in ("first", "second"))
    for path in second.rglob("*.wav"):
        sound(path, [9] * 99)
    streams = [FSDD(root, cochlea=Ear()).raw("val")[0][0] for root in (first, second)]
    assert len(HEARD) == 2
    assert streams[0].t.tolist() != streams[1].t.tolist()


def commands(root):
    for word in ("backward", "zero"):
        for speaker in "abcd":
            sound(root / f"{word}/{speaker}_nohash_0.wav", [0, 160], rate=16000)
    sound(root / "_background_noise_/white.wav", [1] * 8)
    (root / "validation_list.txt").write_text("zero/b_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("zero/a_nohash_0.wav\nbackward/d_nohash_0.wav\n")
    return root


def test_speech_commands_heeds_its_lists(tmp_path):
    module = SpeechCommands(commands(tmp_path), pool=1, cochlea=Ear())
    assert [module.raw(part).labels.tolist() for part in ("train", "val", "test")] == [[0, 0, 0, 34, 34], [34], [0, 34]]
    seeds = [int(stream.t[-1]) - 10**6 for stream, _ in module.raw("test")]
    assert seeds == [zlib.crc32(name) for name in (b"backward/d_nohash_0.wav", b"zero/a_nohash_0.wav")]
    assert module.raw("val")[0][0].t.tolist()[0] == 62


def test_without_lists_there_is_no_data_set(tmp_path):
    (commands(tmp_path) / "testing_list.txt").unlink()
    with pytest.raises(DataError, match=r"no Speech Commands recordings .* testing_list.txt"):
        SpeechCommands(tmp_path, cochlea=Ear()).setup()


def test_sounds_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"gone\.wav cannot be read"):
        read_wav(tmp_path / "gone.wav")
    sound(tmp_path / "whole.wav", [1, 2, 3, 4])
    content = (tmp_path / "whole.wav").read_bytes()
    for size in range(len(content)):
        (tmp_path / "cut.wav").write_bytes(content[:size])
        with pytest.raises(FormatError, match=r"cut\.wav"):
            read_wav(tmp_path / "cut.wav")
    sound(tmp_path / "stereo.wav", [1, 2, 3, 4], channels=2)
    with pytest.raises(FormatError, match="wants one channel of 16 bits, received 2 of 16"):
        read_wav(tmp_path / "stereo.wav")


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    root = digits(tmp_path / "data", [0, 10, 45])
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SPIKENET_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written.*SPIKENET_CACHE names another folder"):
        FSDD(root, cochlea=Ear()).raw("val")[0]


def test_real_recordings(shared):
    """Ten recordings 5 to 14 and 45 to 46 of ten digits and six speakers, each one readable."""
    module = FSDD(shared("data/fsdd_wav"), cochlea=Ear())
    assert {part: module.sizes[part] for part in ("train", "val", "test")} == {"train": 480, "val": 120, "test": 120}
    for path in sorted(shared("data/fsdd_wav").glob("*_46.wav"))[:10]:
        waveform, rate = read_wav(path)
        assert rate == 8000
        assert 0.1 < len(waveform) / rate < 3
        assert waveform.abs().max() > 0.01
