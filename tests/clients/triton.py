"""NVIDIA's own client against raygen-server, unmodified: python triton.py HOST:PORT"""
import io, queue, sys
import numpy as np
import tritonclient.grpc as triton
from PIL import Image

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready()
index = client.get_model_repository_index().models
name = index[0].name
assert client.is_model_ready(name) and not client.is_model_ready("nobody")
metadata, config = client.get_model_metadata(name), client.get_model_config(name).config
assert [o.name for o in metadata.outputs] == ["image", "png", "token_ids"], metadata
assert config.max_batch_size == 0 and not config.input[0].optional and config.input[1].optional


def inputs(text, **numbers):
    given = triton.InferInput("impression", [1], "BYTES")
    given.set_data_from_numpy(np.array([text.encode()], dtype=np.object_))
    found = [given]
    for key, (value, datatype, dtype) in numbers.items():
        number = triton.InferInput(key, [1], datatype)
        number.set_data_from_numpy(np.array([value], dtype=dtype))
        found.append(number)
    return found


asked = inputs("Pulmonary edema.", seed=(7, "UINT64", np.uint64), step_count=(4, "UINT32", np.uint32), sample_count=(2, "UINT32", np.uint32))
result = client.infer(name, asked, request_id="a")
image, ids = result.as_numpy("image"), result.as_numpy("token_ids")
assert image.dtype == np.uint8 and image.shape[0] == 2 and image.shape[1] == image.shape[2], image.shape
files = [Image.open(io.BytesIO(png)) for png in result.as_numpy("png")]
assert all((np.asarray(file) == pixels).all() for file, pixels in zip(files, image)), "png and image differ"
assert any("synthetic" in f"{key} {value}".lower() for key, value in files[0].text.items()), files[0].text
assert result.get_response().id == "a" and result.get_response().parameters["seed"].uint64_param == 7
again = client.infer(name, asked, outputs=[triton.InferRequestedOutput("token_ids")])
assert (again.as_numpy("token_ids") == ids).all(), "the same seed gives the same tokens"
assert again.as_numpy("image") is None, "only what was asked for"
# Numbers as parameters, as clients without tensors for them send them.
small = client.infer(name, inputs("Edema."), parameters={"step_count": 2, "seed": 3})
assert small.get_response().parameters["seed"].uint64_param == 3

for wrong, said in [
    (inputs(" "), "impression"),
    (inputs("Edema.", step_count=(0, "UINT32", np.uint32)), "step_count"),
    ([triton.InferInput("prompt", [1], "BYTES")], "prompt"),
]:
    if wrong[0].name() == "prompt":
        wrong[0].set_data_from_numpy(np.array([b"x"], dtype=np.object_))
    try:
        client.infer(name, wrong)
        raise AssertionError(f"{said} was not refused")
    except triton.InferenceServerException as error:
        assert "INVALID_ARGUMENT" in str(error.status()) and said in error.message(), error

answers = queue.Queue()
client.start_stream(callback=lambda result, error: answers.put((result, error)))
client.async_stream_infer(name, asked, request_id="stream")
client.async_stream_infer(name, inputs(" "), request_id="wrong")
steps, final, refused = [], None, None
while final is None or refused is None:
    answer, error = answers.get(timeout=60)
    if error is not None:
        refused = error
        continue
    parameters = answer.get_response().parameters
    if parameters["triton_final_response"].bool_param if "triton_final_response" in parameters else False:
        final = answer
    else:
        steps.append(parameters["step"].int64_param)
client.stop_stream()
assert steps and steps == sorted(steps) and steps[-1] == 4, steps
assert (final.as_numpy("token_ids") == ids).all(), "a stream gives what a call gives"
assert "impression" in refused.message(), refused
statistics = client.get_inference_statistics(name).model_stats[0]
assert statistics.inference_count == 4 and statistics.inference_stats.fail.count >= 3, statistics
print(f"tritonclient: {name}, {image.shape} pixels, {len(steps)} steps streamed, {statistics.inference_count} inferences counted")
