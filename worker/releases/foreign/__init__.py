"""Foreign releases: results of cloud services, read from their JSON files and stored beside those of own releases."""
