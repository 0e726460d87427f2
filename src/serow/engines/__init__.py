"""What runs models: child processes behind one protocol, how each is started and spoken to, and which one a model gets.

base        the protocol, and the values that cross it
kinds       the engines that there are, and how they differ
process     a child process and its whole life
llamacpp    language models          diffusers   pictures
remote      the same at an address   vllm        the same in a vLLM that we start
build       engines compiled here    check       what they were seen to do
selection   which one a model runs on
"""
