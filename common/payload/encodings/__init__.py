"""Make payloads smaller, and say exactly what is lost on the way.

An encoded payload is a safetensors file still. Tensors that would gain nothing are in it as they are; each other one is
there in parts, named after it:

    fp16, bf16   name                     its values or changes as F16 or BF16
    int8         name.q8, name.scale      I8 whole steps, and the F32 size of one step
    topk         name.idx, name.val       I16 places in each span of 32768 elements, and the BF16 changes there

A global model is encoded by its values. An update is encoded by its change to the global model: rounding is then relative
to the change and not to the weight. bfloat16 has 8 bits, so a value as such would swallow every change below 0.2 % of a weight.

What int8 and topk leave out of a change is kept beside the data as the *residual* and added to the next change (Seide et
al., Interspeech 2014; Karimireddy et al., ICML 2019). All work is done in blocks, so memory does not depend on the model.
"""
