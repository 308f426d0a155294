from chisel_agent.service import main

main()
