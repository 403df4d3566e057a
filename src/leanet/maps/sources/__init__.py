"""Map sources, one per file; the contract is in leanet.maps.source."""
