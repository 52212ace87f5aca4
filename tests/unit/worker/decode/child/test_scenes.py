import cv2
import numpy as np

from worker.decode.child.scenes import CutDetector


def shot(seed, height=180, width=320):
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def cuts(frames):
    judge = CutDetector()
    return [judge.is_cut(frame) for frame in frames]


def test_a_new_shot_is_a_cut_and_the_first_frame_is_none():
    assert cuts([shot(1), shot(1), shot(2), shot(2)]) == [False, False, True, False]


def test_motion_and_a_change_of_light_are_no_cut():
    moved = np.roll(shot(3), 9, axis=1)
    darker = (moved * 0.8).astype(np.uint8)
    assert cuts([shot(3), moved, darker]) == [False, False, False]


def test_a_black_frame_ends_a_shot():
    black = np.zeros((180, 320, 3), np.uint8)
    assert cuts([shot(4), black, black, shot(4)]) == [False, True, False, True]


def test_an_image_of_one_pixel_is_judged_too():
    assert cuts([np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)]) == [False, True]
