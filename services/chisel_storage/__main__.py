from chisel_storage.service import main

main()
