"""Frames from image folders, written by hand or by Pillow, and from video files, written by PyAV."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
from PIL import Image

from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import EventStream, V2ECamera, open_video

FRAMES = np.random.default_rng(0).integers(0, 256, (7, 6, 8), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for number, frame in enumerate(FRAMES):
        (tmp_path / f"{number:03d}.pgm").write_bytes(b"P5 8 6 255\n" + frame.tobytes())
    (tmp_path / "notes.txt").write_text("not a frame")
    return tmp_path


def test_images_come_in_the_order_of_their_names(folder):
    chunks = list(open_video(folder, rate=30, chunk=3))
    assert [len(frames) for frames, _ in chunks] == [3, 3, 1]
    frames, times = (torch.cat(each) for each in zip(*chunks, strict=True))
    assert frames.dtype == torch.uint8
    np.testing.assert_array_equal(frames, FRAMES)
    assert times.tolist() == [0, 33_333, 66_667, 100_000, 133_333, 166_667, 200_000]


def test_colour_becomes_luma_and_deep_images_stay_deep(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    ((frames, _),) = open_video(tmp_path, rate=1)
    # ITU-R 601-2: L = 0.299 R + 0.587 G + 0.114 B
    np.testing.assert_allclose(frames.numpy().ravel(), [76, 150, 29, 9], atol=1)
    Image.fromarray(np.array([[0, 300, 65_535]], np.uint16)).save(tmp_path / "a.png")
    ((frames, _),) = open_video(tmp_path, rate=1)
    assert frames.tolist() == [[[0.0, 300.0, 65_535.0]]]


def test_a_camera_records_it_chunk_by_chunk(folder):
    camera = V2ECamera(shot_hz=1)
    streams = list(camera.record(open_video(folder, rate=30, chunk=2), seed=1))
    times = (torch.arange(7) * 1e6 / 30).round().long()
    whole = camera(torch.from_numpy(FRAMES), times, seed=1)
    joined = EventStream.concat(streams)
    assert len(streams) == 4
    assert joined.t.tolist() == whole.t.tolist()
    assert joined.x.tolist() == whole.x.tolist()


def test_a_video_file_keeps_its_times(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)  # without loss
        stream.width, stream.height, stream.pix_fmt = 8, 6, "gray"
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    frames, times = (torch.cat(each) for each in zip(*open_video(path, chunk=4), strict=True))
    np.testing.assert_array_equal(frames, FRAMES)
    assert times.tolist() == [40_000 * k for k in range(7)]
    faster = torch.cat([each for _, each in open_video(path, rate=1000)])
    assert faster.tolist() == [1000 * k for k in range(7)]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(FormatError, match="PyAV"):
        list(open_video(path))


def test_without_pyav_the_error_names_it(tmp_path, monkeypatch):
    (tmp_path / "video.mp4").write_bytes(b"")
    ordinary = builtins.__import__

    def without(name, *rest):
        if name == "av":
            raise ImportError(name)
        return ordinary(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match="pip install av"):
        next(open_video(tmp_path / "video.mp4"))


def test_bad_frames_are_refused(folder):
    (folder / "007.pgm").write_bytes(b"P5 4 6 255\n" + bytes(24))
    with pytest.raises(DataError, match="frame 7 has the size"):
        list(open_video(folder, rate=30))
    (folder / "007.pgm").write_bytes(b"P5 8 6 255\n" + bytes(20))
    with pytest.raises(FormatError, match=r"007\.pgm"):
        list(open_video(folder, rate=30))


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_video(tmp_path / "nothing.mp4")
    with pytest.raises(ArgumentError, match="a rate in frames a second"):
        open_video(tmp_path)
    with pytest.raises(ArgumentError, match="chunk wants"):
        open_video(tmp_path, rate=30, chunk=0)
    with pytest.raises(ArgumentError, match="received 64, 0"):
        open_video(tmp_path, rate=0)
    with pytest.raises(DataError, match="holds no frames"):
        next(open_video(tmp_path, rate=30))
