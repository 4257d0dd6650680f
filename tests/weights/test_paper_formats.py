"""The copies of the authors' models: .pth of pytorch-fcn and .npz of wkentaro/fcn."""

import hashlib
import io
import os
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
from caffe import npz_arrays, paper_layers
from helpers import NARROW_FILTERS, assert_equal_weights, randomize, variables_as_numpy

from keras_fcn import FCN8s, weights
from keras_fcn.weights import open_file

pytestmark = pytest.mark.any_backend

SMALL = {"num_classes": 5, "filters": NARROW_FILTERS, "fc_units": 8}


class PicklerOfPython2(pickle._Pickler):
    """Writes bytes as Python 2 did: opcode `U` and one byte of length, or `T` and four."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_raw(self, value):
        is_short = len(value) < 256
        size = len(value).to_bytes(1 if is_short else 4, "little")
        self.write((b"U" if is_short else b"T") + size + value)
        self.memoize(value)

    dispatch[bytes] = save_raw


def dump_as_python_2(value, file, protocol=2):
    PicklerOfPython2(file, protocol=2).dump(value)


PICKLE_OF_PYTHON_2 = types.SimpleNamespace(
    __name__="pickle", Pickler=PicklerOfPython2, dump=dump_as_python_2
)


@pytest.fixture(scope="module")
def source():
    model = FCN8s(**SMALL)
    randomize(model, seed=3)
    return model


class TestNpz:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_every_array_is_read(self, source, save, tmp_path):
        arrays = npz_arrays(paper_layers(variables_as_numpy(source)))
        save(tmp_path / "fcn8s.npz", **arrays)
        assert_equal_weights(FCN8s(**SMALL, weights=tmp_path / "fcn8s.npz"), source)

    @pytest.mark.parametrize("layer", ["score_fr", "scale_pool4"])
    def test_a_bomb_is_refused_by_its_shape_before_it_unpacks(self, source, layer, tmp_path):
        path = tmp_path / "bomb.npz"
        arrays = npz_arrays(paper_layers(variables_as_numpy(source)))
        arrays.pop(f"{layer}/W", None)
        np.savez(path, **arrays)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (10**9,)}
        )
        with (
            zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
            archive.open(f"{layer}/W.npy", "w", force_zip64=True) as member,
        ):
            member.write(header.getvalue())
            for _ in range(4):
                member.write(bytes(10**7))
        with pytest.raises(ValueError, match=r"\(1000000000,\)"):
            weights.load(source, path)

    def test_an_array_that_ends_early_leaves_the_model_untouched(self, source, tmp_path):
        path = tmp_path / "damaged.npz"
        arrays = npz_arrays(paper_layers(variables_as_numpy(source)))
        np.savez(path, **arrays)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF  # The archive's checksums show it, and nothing else.
        path.write_bytes(content)
        before = source.get_weights()
        with pytest.raises(ValueError, match=r"damaged\.npz must be whole.*is damaged \("):
            weights.load(source, path)
        for new, old in zip(source.get_weights(), before, strict=True):
            np.testing.assert_array_equal(new, old)

    def test_a_header_that_unpacks_to_much_more_is_not_read(self, tmp_path):
        path = tmp_path / "header.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            magic = b"\x93NUMPY\x02\x00" + (50_000_000).to_bytes(4, "little")
            archive.writestr("fc6/W.npy", magic + b" " * 50_000_000)
        with pytest.raises(ValueError, match="header of 50000000 bytes"), open_file(path):
            pass

    @pytest.mark.parametrize("header", ["{'descr': '<f4'", "{[]: 1}", "{'descr': ()}", "-" * 9000])
    def test_strange_headers_are_refused(self, header, tmp_path):
        path = tmp_path / "header.npz"
        with zipfile.ZipFile(path, "w") as archive:
            size = len(header).to_bytes(2, "little")
            archive.writestr("fc6/W.npy", b"\x93NUMPY\x01\x00" + size + header.encode())
        with pytest.raises(ValueError, match=r"must be a whole \.npz file"), open_file(path):
            pass

    def test_values_that_are_no_numbers_are_refused_unread(self, source, tmp_path):
        arrays = npz_arrays(paper_layers(variables_as_numpy(source)))
        arrays["conv1_1/b"] = np.full(8, "x" * 50)
        np.savez(tmp_path / "text.npz", **arrays)
        with pytest.raises(ValueError, match="block1_conv1/bias: holds <U50 in the file"):
            weights.load(source, tmp_path / "text.npz")

    def test_pickles_are_not_read(self, tmp_path):
        path = tmp_path / "objects.npz"
        np.savez(path, **{"score_fr/W": np.array([print], dtype=object)})
        with pytest.raises(ValueError, match="holds Python objects"), open_file(path):
            pass

    @pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more", b"text"])
    def test_other_files_are_refused(self, content, tmp_path):
        path = tmp_path / "other.npz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"must be a whole \.npz file"), open_file(path):
            pass


class TestPyTorch:
    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch", reason="reading .pth files needs PyTorch")

    def state(self, torch, source):
        layers = paper_layers(variables_as_numpy(source))
        return {
            f"{layer}.{name}": torch.from_numpy(array)
            for layer, values in layers.items()
            for name, array in zip(("weight", "bias"), values, strict=False)
        }

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    @pytest.mark.parametrize("checkpoint", [True, False], ids=["checkpoint", "state dict"])
    def test_every_tensor_is_read(self, torch, source, zipped, checkpoint, tmp_path):
        state = self.state(torch, source)
        state = {"epoch": 3, "model_state_dict": state} if checkpoint else state
        path = tmp_path / ("model_best.pth.tar" if checkpoint else "fcn8s.pth")
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
        assert_equal_weights(FCN8s(**SMALL, weights=path), source)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_checkpoints_hold_numpys_numbers(self, torch, source, zipped, tmp_path):
        """pytorch-fcn stores `best_mean_iu` as the float64 that NumPy's mean returns."""
        scores = {"best_mean_iu": np.float64(0.6), "confusion": np.ones((2, 2))}
        path = tmp_path / "model_best.pth.tar"
        state = {"epoch": 3, "model_state_dict": self.state(torch, source), **scores}
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
        if not zipped:  # The names of NumPy 1.
            path.write_bytes(path.read_bytes().replace(b"numpy._core.", b"numpy.core."))
        assert_equal_weights(FCN8s(**SMALL, weights=path), source)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_checkpoints_of_python_2_hold_raw_bytes(self, torch, source, zipped, tmp_path):
        """Python 2 has one type for bytes and text, which its pickles write as short strings."""
        path = tmp_path / "model_best.pth.tar"
        options = {"pickle_module": PICKLE_OF_PYTHON_2, "_use_new_zipfile_serialization": zipped}
        state = self.state(torch, source)
        torch.save({"model_state_dict": state, "epoch": b"3"}, path, **options)
        assert b"U\x013" in path.read_bytes()
        assert_equal_weights(FCN8s(**SMALL, weights=path), source)
        for value in (np.float64(-0.6), np.ones((8, 8))):
            torch.save({"model_state_dict": state, "score": value}, path, **options)
            with (
                pytest.raises(ValueError, match=r"raw bytes of Python 2 beside the weights"),
                open_file(path),
            ):
                pass

    # A CUDA build of PyTorch warns where there is no GPU.
    @pytest.mark.filterwarnings("ignore:CUDA initialization")
    def test_the_names_of_a_wrapped_module_are_read(self, torch, source, tmp_path):
        layers = {}
        for key, tensor in self.state(torch, source).items():
            layer, _, name = key.partition(".")
            layers.setdefault(layer, {})[name] = torch.nn.Parameter(tensor)
        module = torch.nn.ModuleDict(
            {layer: torch.nn.ParameterDict(tensors) for layer, tensors in layers.items()}
        )
        path = tmp_path / "fcn8s.pth"
        state = torch.nn.DataParallel(module).state_dict()
        # The prefix of torch.compile, whose import of Triton may crash beside TensorFlow.
        torch.save({f"_orig_mod.{key}": tensor for key, tensor in state.items()}, path)
        assert_equal_weights(FCN8s(**SMALL, weights=path), source)

    def test_code_in_a_file_does_not_run(self, torch, tmp_path):
        path, trace = tmp_path / "code.pth", tmp_path / "trace"

        class Code:
            def __reduce__(self):
                return os.mkdir, (str(trace),)

        torch.save({"fc6.weight": Code()}, path)
        with pytest.raises(ValueError, match=r"must be a whole \.pth state dict"), open_file(path):
            pass
        path.write_bytes(pickle.dumps(Code(), protocol=2))  # As PyTorch writes it.
        with pytest.raises(ValueError, match=r"must be a whole \.pth state dict"), open_file(path):
            pass
        assert not trace.exists()

    def test_no_error_advises_to_run_the_code_in_a_file(self, torch, tmp_path):
        """PyTorch's own error proposes `weights_only=False`."""
        path = tmp_path / "module.pth"
        torch.save(torch.nn.Linear(2, 2), path)
        with pytest.raises(ValueError, match=r"save its state_dict\(\)") as raised, open_file(path):
            pass
        assert "weights_only" not in str(raised.value)

    def test_a_list_of_tensors_is_no_state_dict(self, torch, tmp_path):
        path = tmp_path / "list.pth"
        torch.save([torch.ones(1)], path)
        with pytest.raises(ValueError, match="it holds a list, not a state dict"), open_file(path):
            pass

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4"])
    def test_other_files_are_refused(self, content, tmp_path):
        path = tmp_path / "other.pth"
        path.write_bytes(content)
        with (
            pytest.raises(ValueError, match=r"must be a whole \.pth state dict") as raised,
            open_file(path),
        ):
            pass
        assert "weights_only" not in str(raised.value)
        assert "Python objects" not in str(raised.value)

    def test_a_truncated_file_is_refused(self, torch, source, tmp_path):
        path = tmp_path / "cut.pth"
        torch.save(self.state(torch, source), path)
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(ValueError, match=r"must be a whole \.pth state dict"), open_file(path):
            pass

    def test_a_tensor_that_claims_more_than_it_has_is_refused_by_its_shape(self, torch, tmp_path):
        path = tmp_path / "expanded.pth"
        torch.save({"score_fr.weight": torch.ones(1).expand(2**40)}, path)
        with pytest.raises(ValueError, match=str(2**40)):
            FCN8s(**SMALL, weights=path)

    def test_what_is_no_plain_tensor_is_refused(self, torch, tmp_path):
        path = tmp_path / "strange.pth"
        for value in (torch.eye(3).to_sparse(), torch.ones(3, dtype=torch.complex64), 7):
            torch.save({"fc6.weight": value}, path)
            with pytest.raises(ValueError, match="must be a plain tensor"), open_file(path):
                pass

    def test_torchvisions_vgg16_is_refused_and_caffes_copy_taken(
        self, torch, vgg16, tmp_path, monkeypatch
    ):
        layers = paper_layers(variables_as_numpy(vgg16))
        places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
        state = {
            f"features.{place}.{name}": torch.from_numpy(array)
            for place, values in zip(places, layers.values(), strict=True)
            for name, array in zip(("weight", "bias"), values, strict=True)
        }
        path = tmp_path / "vgg16.pth"
        torch.save(state, path)
        with pytest.raises(ValueError, match="torchvision's VGG-16 was trained on RGB"):
            FCN8s(**SMALL, weights=path)
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        monkeypatch.setattr("keras_fcn.weights.pytorch.CAFFE_VGG16_MD5", md5)
        with pytest.warns(UserWarning, match="fc6 and fc7 start random"):
            model = FCN8s(**SMALL, weights=path)
        assert_equal_weights(model, vgg16)


def test_without_pytorch_a_pth_file_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "fcn8s.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with (
        pytest.raises(ImportError, match=r"pip install 'keras-fcn\[torch\]'"),
        open_file(tmp_path / "fcn8s.pth"),
    ):
        pass
