from chisel_gateway.service import main

main()
