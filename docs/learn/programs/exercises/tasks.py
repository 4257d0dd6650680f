"""Counts the regions of a class: groups of its pixels that touch."""

import numpy as np

y, x = np.mgrid[:120, :160]
first = (y - 70) ** 2 + (x - 40) ** 2 < 26**2
second = (y - 78) ** 2 + (x - 70) ** 2 < 22**2


def regions(inside):
    """Returns the number of groups of True pixels whose edges touch."""
    left = {(int(row), int(column)) for row, column in np.argwhere(inside)}
    count = 0
    while left:
        count += 1
        found = [left.pop()]
        while found:
            row, column = found.pop()
            around = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)}
            found += around & left
            left -= around
    return count


print("balls that touch:", regions(first | second), "region, 2 instances")
apart = (y - 78) ** 2 + (x - 110) ** 2 < 22**2
print("balls apart:", regions(first | apart), "regions, 2 instances")
fence = abs(x - 40) < 3
print("one ball behind a fence:", regions(first & ~fence), "regions, 1 instance")
