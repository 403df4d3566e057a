"""Map sources, one a file; the contract is in leanet.maps.source."""
