from chisel.cli import main

raise SystemExit(main())
