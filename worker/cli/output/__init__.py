"""How commands print: tables and bars on terminals, JSON, CSV and Parquet for programs."""
