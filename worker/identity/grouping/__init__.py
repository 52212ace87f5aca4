"""Groups appearances into people: knows arrays alone, neither rows nor names."""
