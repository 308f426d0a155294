from chisel_scheduler.service import main

main()
