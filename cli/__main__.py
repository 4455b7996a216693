"""``python -m mmbind_cli``."""

from .main import main

main()
