"""The raw file reader of the tests, on files written out by hand."""

import numpy as np
import pytest
from support import complaints, measures, parse_raw

HEAD = (
    "Title: t\nDate: d\nPlotname: AC\nFlags: {flags}\nNo. Variables: 2\nNo. Points: 2\n"
    "Variables:\n\t0\ttime\ttime\n\t1\tV(A)\tvoltage\n"
)


def test_binary_plots_follow_one_another():
    first, second = np.array([[1.0, -2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.5]])
    head = HEAD.format(flags="real").encode() + b"Binary:\n"
    plots = parse_raw(head + first.tobytes() + head + second.tobytes())
    assert [plot["v(a)"].tolist() for plot in plots] == [[-2, 4], [6, 8.5]]
    assert plots[1]["time"].tolist() == [5, 7]


def test_ascii_plots_may_be_complex():
    content = HEAD.format(flags="complex") + "Values:\n 0\t1.0,0.0\n\t-2.0,0.5\n\n 1\t3.0,0.0\n\t4.0,-1\n\n"
    (plot,) = parse_raw(content.encode())
    assert plot["v(a)"].tolist() == [-2 + 0.5j, 4 - 1j]


@pytest.mark.parametrize("content", [b"no raw file", HEAD.format(flags="real").encode() + b"Binary:\n1234"])
def test_what_is_no_raw_file_is_refused(content):
    with pytest.raises(AssertionError, match="raw file"):
        parse_raw(content)


def test_measures_and_complaints_are_found_in_what_ngspice_prints():
    printed = "v_end               =  -2.573720e-04\nmoved= 1.0e-14 from= 0.0\nWarning: x\nNote: fine\n"
    assert measures(printed) == {"v_end": -2.57372e-4, "moved": 1e-14}
    assert complaints(printed) == ["Warning: x"]
