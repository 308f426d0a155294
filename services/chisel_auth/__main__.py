from chisel_auth.service import main

main()
