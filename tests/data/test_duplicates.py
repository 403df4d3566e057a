"""Files with the same bytes, within a class and across the two."""

import pytest

from leanet.data.cache import ImageInfo
from leanet.data.duplicates import duplicates, refuse_duplicates_across
from leanet.errors import UserError


def test_duplicates_within_and_across() -> None:
    infos = [ImageInfo(file, sha, 1, 1) for file, sha in zip("abcdef", "xxyyzw", strict=True)]
    found = duplicates(infos, [0, 0, 0, 1, 1, 1])
    assert (found.within, found.across) == ((("a", "b"),), (("c", "d"),))
    with pytest.raises(UserError, match=r"^c and d are the same picture in both classes\. Remove"):
        refuse_duplicates_across(infos, [0, 0, 0, 1, 1, 1])
    refuse_duplicates_across(infos, [0] * 6)
