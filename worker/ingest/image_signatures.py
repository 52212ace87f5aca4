"""First bytes of images: formats that are read, and known formats that are not read, with advice."""

from __future__ import annotations

from worker.errors import RAW_ADVICE

_PICTURE = "convert it to PNG, TIFF or JPEG first"
_PAGES = "export its pages as PNG or JPEG first"

# Targa has no signature: a kind that exists, with or without a palette, a size above 0, 8 to 32 bits
_TARGA_KIND = rb"\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09]...[\0\x01][\x0f\x10\x18\x20]"
_TARGA_SIZE = rb"(?!\0\0).[\0-\x3f](?!\0\0).[\0-\x3f][\x08\x0f\x10\x18\x20][\0-\x3f]"

# Raw camera files with a signature of their own; those that look like TIFF are recognised by their tags.
RAW_IMAGES: tuple[bytes, ...] = (
    rb"II\*\0.{4}CR\x02\0",  # Canon CR2, a TIFF file around a small preview
    rb"II\*\0.{4}IIII.waR|MM\0\*.{4}MMMMRaw",  # Phase One IIQ
    rb"II(?:RO|RS)|MMOR",  # Olympus ORF
    rb"IIU\0",  # Panasonic RW2, Leica RWL
    rb"FUJIFILMCCD-RAW",
    rb"FOVb",  # Sigma X3F
    rb"\0MRM",  # Minolta MRW
    rb"II.{4}HEAPCCDR",  # Canon CRW
    rb"ARRI.{4}",
)

# Pattern and name of each format.
IMAGE_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\xd8\xff(?!\xf7)", "jpeg"),
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"GIF8[79]a", "gif"),
    (rb"RIFF....WEBP", "webp"),
    (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", "bmp"),
    (rb"II\*\0|MM\0\*|II\+\0\x08|MM\0\+\0\x08", "tiff"),
    (rb"8BPS\0[\x01\x02]", "psd"),
    (rb"\0\0\x01\0[^\0]\0", "ico"),
    (rb"icns\0", "icns"),
    (rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s", "ppm"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "jpeg2000"),
    (rb"\n[\0\x02\x03\x04\x05][\0\x01][\x01\x02\x04\x08].{60}\0[\x01-\x04]", "pcx"),
    (rb"\x01\xda[\0\x01][\x01\x02]\0[\x01-\x03]", "sgi"),
    (rb"qoif.{8}[\x03\x04][\0\x01]", "qoi"),
    (rb"\x59\xa6\x6a\x95", "sun"),
)

# Pattern and message; tried last, because some patterns are short.
UNREAD_IMAGES: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", f"JPEG XL is not read: {_PICTURE}"),
    (rb"\xff\xd8\xff\xf7", f"JPEG-LS is not read: {_PICTURE}"),
    (rb"II\xbc[\0\x01]", f"JPEG XR is not read: {_PICTURE}"),
    (rb"BPG\xfb", f"BPG is not read: {_PICTURE}"),
    (rb"FLIF", f"FLIF is not read: {_PICTURE}"),
    (rb"AT&TFORM", f"DjVu is not read: {_PAGES}"),
    (rb"%!PS|\xc5\xd0\xd3\xc6|\x04%!PS", f"PostScript is not read: {_PAGES}"),
    (rb"(?:\xef\xbb\xbf)?\s*%PDF-", f"PDF is not read: {_PAGES}"),
    (rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.{0,1000}?)?(?:<!--.{0,2000}?-->\s*)?(?:<!DOCTYPE\s+svg.{0,2000}?)?<(?:svg:)?svg[\s>]",
     f"SVG is not read: {_PICTURE}"),
    (rb"gimp xcf ", f"GIMP's XCF is not read: {_PICTURE}"),
    (rb"Paint Shop Pro Image File\n\x1a", f"Paint Shop Pro is not read: {_PICTURE}"),
    (rb"PDN3", f"Paint.NET is not read: {_PICTURE}"),
    (rb".{128}DICM", f"DICOM is not read: {_PICTURE}"),
    (rb"SIMPLE  =\s", f"FITS is not read: {_PICTURE}"),
    (rb"\x76\x2f\x31\x01", f"OpenEXR is not read: {_PICTURE}"),
    (rb"#\?(?:RADIANCE|RGBE)", f"Radiance HDR is not read: {_PICTURE}"),
    (rb"SDPX|XPDS", f"DPX is not read: {_PICTURE}"),
    (rb"\x80\x2a\x5f\xd7", f"Cineon is not read: {_PICTURE}"),
    (rb"\xb1\x68\xde\x3a", f"DCX is not read: {_PAGES}"),
    (rb"P7\nWIDTH ", f"PAM is not read: {_PICTURE}"),
    (rb"P[Ff]\s+\d+\s+\d+\s", f"PFM is not read: {_PICTURE}"),
    (rb"DDS \x7c\0\0\0", f"DDS is not read: {_PICTURE}"),
    (rb"\xabKTX [12][01]\xbb", f"KTX is not read: {_PICTURE}"),
    (rb"\xd7\xcd\xc6\x9a|[\x01\x02]\0\x09\0\0[\x01\x03]", f"WMF is not read: {_PICTURE}"),
    (rb"\x01\0\0\0.{36} EMF", f"EMF is not read: {_PICTURE}"),
    (rb"\0\0\x02\0[^\0]\0", f"a cursor is not read: {_PICTURE}"),
    (rb"\x8aMNG\r\n\x1a\n|\x8bJNG\r\n\x1a\n", f"MNG and JNG are not read: {_PICTURE}"),
    (rb"FORM....(?:ILBM|PBM |ACBM)", f"IFF images are not read: {_PICTURE}"),
    (rb"/\* XPM \*/|#define \S+_width \d", f"X pixmaps are not read: {_PICTURE}"),
    (rb"CPT\d?FILE", f"Corel Photo-Paint is not read: {_PICTURE}"),
    (rb".(?:" + _TARGA_KIND + rb").{4}" + _TARGA_SIZE, f"Targa is not read: {_PICTURE}"),
)  # fmt: skip

# By brand: messages for formats that share the box structure of MP4.
UNREAD_BRANDS: dict[bytes, str] = {
    b"crx ": RAW_ADVICE,
    b"jxl ": f"JPEG XL is not read: {_PICTURE}",
    b"jpx ": f"JPEG 2000 of part 2 is not read: {_PICTURE}",
    b"jpm ": f"JPEG 2000 of part 6 is not read: {_PAGES}",
    **dict.fromkeys(
        (b"avci", b"avcs", b"vvic", b"vvis", b"evbi", b"evbs", b"j2ki", b"j2is", b"jpgs", b"jpeg"),
        f"HEIF is read with HEVC and AV1 only: {_PICTURE}",
    ),
}
