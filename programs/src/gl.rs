//! GLES with the `unsafe` of its C interface behind methods that check lengths.
//!
//! Every method acts on the context that is current on the calling thread. With none current, Mesa's
//! dispatch does nothing. The methods keep glow's names, so the GL manual is their documentation.

use glow::HasContext;
pub use glow::{
    NativeBuffer as Buffer, NativeFence as Sync, NativeFramebuffer as Framebuffer, NativeProgram as Program,
    NativeQuery as Query, NativeRenderbuffer as Renderbuffer, NativeTexture as Texture,
    NativeTransformFeedback as TransformFeedback, NativeUniformLocation as UniformLocation,
    NativeVertexArray as VertexArray, PixelPackData, PixelUnpackData,
};

use crate::stop::{Stop, Verdict};

/// The GL functions of one context.
#[derive(Debug)]
pub struct Gl(glow::Context);

macro_rules! calls {
    ($($name:ident($($argument:ident: $kind:ty),*) $(-> $answer:ty)?;)*) => {
        impl Gl {
            $(
                #[doc = concat!("The GL call that glow names `", stringify!($name), "`.")]
                #[allow(clippy::too_many_arguments, reason = "GL's own signatures")]
                pub fn $name(&self, $($argument: $kind),*) $(-> $answer)? {
                    // SAFETY: takes no pointer to client memory other than slices whose length GL is
                    // told; GL answers wrong values and names with an error, not with undefined behaviour.
                    unsafe { self.0.$name($($argument),*) }
                }
            )*
        }
    };
}

calls! {
    active_texture(unit: u32);
    attach_shader(program: Program, shader: glow::NativeShader);
    begin_query(target: u32, query: Query);
    begin_transform_feedback(mode: u32);
    bind_buffer(target: u32, buffer: Option<Buffer>);
    bind_buffer_base(target: u32, index: u32, buffer: Option<Buffer>);
    bind_framebuffer(target: u32, framebuffer: Option<Framebuffer>);
    bind_renderbuffer(target: u32, renderbuffer: Option<Renderbuffer>);
    bind_texture(target: u32, texture: Option<Texture>);
    bind_transform_feedback(target: u32, feedback: Option<TransformFeedback>);
    bind_vertex_array(array: Option<VertexArray>);
    blend_equation(mode: u32);
    blend_func(source: u32, destination: u32);
    blend_func_separate(source_rgb: u32, destination_rgb: u32, source_alpha: u32, destination_alpha: u32);
    blit_framebuffer(x0: i32, y0: i32, x1: i32, y1: i32, to_x0: i32, to_y0: i32, to_x1: i32, to_y1: i32,
        mask: u32, filter: u32);
    buffer_data_size(target: u32, size: i32, usage: u32);
    buffer_data_u8_slice(target: u32, data: &[u8], usage: u32);
    buffer_sub_data_u8_slice(target: u32, offset: i32, data: &[u8]);
    check_framebuffer_status(target: u32) -> u32;
    clear(mask: u32);
    clear_color(red: f32, green: f32, blue: f32, alpha: f32);
    clear_depth_f32(depth: f32);
    clear_stencil(stencil: i32);
    client_wait_sync(sync: Sync, flags: u32, timeout_ns: i32) -> u32;
    color_mask(red: bool, green: bool, blue: bool, alpha: bool);
    copy_buffer_sub_data(from: u32, to: u32, from_offset: i32, to_offset: i32, size: i32);
    create_buffer() -> Result<Buffer, String>;
    create_framebuffer() -> Result<Framebuffer, String>;
    create_program() -> Result<Program, String>;
    create_query() -> Result<Query, String>;
    create_renderbuffer() -> Result<Renderbuffer, String>;
    create_texture() -> Result<Texture, String>;
    create_transform_feedback() -> Result<TransformFeedback, String>;
    create_vertex_array() -> Result<VertexArray, String>;
    delete_buffer(buffer: Buffer);
    delete_framebuffer(framebuffer: Framebuffer);
    delete_program(program: Program);
    delete_query(query: Query);
    delete_renderbuffer(renderbuffer: Renderbuffer);
    delete_sync(sync: Sync);
    delete_texture(texture: Texture);
    delete_transform_feedback(feedback: TransformFeedback);
    delete_vertex_array(array: VertexArray);
    depth_func(function: u32);
    depth_mask(write: bool);
    disable(capability: u32);
    dispatch_compute(x: u32, y: u32, z: u32);
    draw_buffers(buffers: &[u32]);
    draw_arrays(mode: u32, first: i32, count: i32);
    draw_arrays_instanced(mode: u32, first: i32, count: i32, instances: i32);
    draw_elements(mode: u32, count: i32, kind: u32, offset: i32);
    draw_elements_instanced(mode: u32, count: i32, kind: u32, offset: i32, instances: i32);
    enable(capability: u32);
    enable_vertex_attrib_array(index: u32);
    end_query(target: u32);
    end_transform_feedback();
    fence_sync(condition: u32, flags: u32) -> Result<Sync, String>;
    finish();
    flush();
    framebuffer_renderbuffer(target: u32, attachment: u32, kind: u32, renderbuffer: Option<Renderbuffer>);
    framebuffer_texture_2d(target: u32, attachment: u32, kind: u32, texture: Option<Texture>, level: i32);
    generate_mipmap(target: u32);
    get_error() -> u32;
    get_parameter_i32(parameter: u32) -> i32;
    get_parameter_string(parameter: u32) -> String;
    get_query_parameter_u32(query: Query, parameter: u32) -> u32;
    get_uniform_block_index(program: Program, name: &str) -> Option<u32>;
    get_uniform_location(program: Program, name: &str) -> Option<UniformLocation>;
    link_program(program: Program);
    memory_barrier(barriers: u32);
    pixel_store_i32(parameter: u32, value: i32);
    read_buffer(source: u32);
    renderbuffer_storage(target: u32, format: u32, width: i32, height: i32);
    renderbuffer_storage_multisample(target: u32, samples: i32, format: u32, width: i32, height: i32);
    scissor(x: i32, y: i32, width: i32, height: i32);
    stencil_func(function: u32, reference: i32, mask: u32);
    stencil_op(fail: u32, depth_fail: u32, pass: u32);
    tex_parameter_i32(target: u32, parameter: u32, value: i32);
    tex_storage_2d(target: u32, levels: i32, format: u32, width: i32, height: i32);
    tex_storage_3d(target: u32, levels: i32, format: u32, width: i32, height: i32, depth: i32);
    transform_feedback_varyings(program: Program, names: &[&str], mode: u32);
    uniform_1_f32(location: Option<&UniformLocation>, x: f32);
    uniform_1_i32(location: Option<&UniformLocation>, x: i32);
    uniform_2_f32(location: Option<&UniformLocation>, x: f32, y: f32);
    uniform_3_f32(location: Option<&UniformLocation>, x: f32, y: f32, z: f32);
    uniform_4_f32(location: Option<&UniformLocation>, x: f32, y: f32, z: f32, w: f32);
    uniform_block_binding(program: Program, index: u32, binding: u32);
    uniform_matrix_4_f32_slice(location: Option<&UniformLocation>, transpose: bool, values: &[f32]);
    use_program(program: Option<Program>);
    vertex_attrib_divisor(index: u32, divisor: u32);
    vertex_attrib_pointer_f32(index: u32, size: i32, kind: u32, normalized: bool, stride: i32, offset: i32);
    viewport(x: i32, y: i32, width: i32, height: i32);
    wait_sync(sync: Sync, flags: u32, timeout: u64);
}

/// The place and size of a rectangle of texels in one level of a 2D texture.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Left edge.
    pub x: i32,
    /// Lower edge.
    pub y: i32,
    /// Width in texels.
    pub width: i32,
    /// Height in texels.
    pub height: i32,
}

impl Region {
    /// The rectangle at the origin.
    pub fn size(width: i32, height: i32) -> Self {
        Self { x: 0, y: 0, width, height }
    }
}

/// How texels lie in client memory: GL's format and type, and the alignment of rows.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// `RGBA`, `RED_INTEGER` and so on.
    pub format: u32,
    /// `UNSIGNED_BYTE`, `FLOAT` and so on.
    pub kind: u32,
    /// 1, 2, 4 or 8.
    pub alignment: i32,
}

impl Layout {
    /// Four bytes a texel.
    pub const RGBA8: Self = Self { format: glow::RGBA, kind: glow::UNSIGNED_BYTE, alignment: 4 };

    /// Bytes of one texel.
    pub fn texel(self) -> usize {
        let channels = match self.format {
            glow::RED | glow::RED_INTEGER => 1,
            glow::RG | glow::RG_INTEGER => 2,
            glow::RGB | glow::RGB_INTEGER => 3,
            _ => 4,
        };
        match self.kind {
            glow::UNSIGNED_BYTE | glow::BYTE => channels,
            glow::HALF_FLOAT | glow::UNSIGNED_SHORT | glow::SHORT => channels * 2,
            glow::UNSIGNED_SHORT_5_6_5 | glow::UNSIGNED_SHORT_4_4_4_4 | glow::UNSIGNED_SHORT_5_5_5_1 => 2,
            glow::UNSIGNED_INT_2_10_10_10_REV => 4,
            _ => channels * 4,
        }
    }

    /// Bytes from one row to the next.
    pub fn row(self, width: i32) -> usize {
        (length(width) * self.texel()).next_multiple_of(length(self.alignment))
    }

    /// Bytes of a whole rectangle.
    pub fn bytes(self, region: Region) -> usize {
        self.row(region.width) * length(region.height)
    }
}

impl Gl {
    /// The functions of the context that is current.
    pub fn load(find: impl FnMut(&str) -> *const std::ffi::c_void) -> Self {
        // SAFETY: `find` is eglGetProcAddress, which answers with the function of that name or null.
        Self(unsafe { glow::Context::from_loader_function(find) })
    }

    /// Whether the context offers an extension.
    pub fn has(&self, extension: &str) -> bool {
        self.0.supported_extensions().contains(extension)
    }

    /// `GL_RENDERER`.
    pub fn renderer(&self) -> String {
        self.get_parameter_string(glow::RENDERER)
    }

    /// Whether the context is at least ES 3.`minor`.
    pub fn is_es3(&self, minor: u32) -> bool {
        let version = self.0.version();
        (version.major, version.minor) >= (3, minor)
    }

    /// Fails if GL has noted an error.
    pub fn check(&self) -> Verdict {
        match self.get_error() {
            glow::NO_ERROR => Ok(()),
            code => Err(Stop::failed(format!("expected no GL error, saw {code:#06x}"))),
        }
    }

    /// A linked program of a vertex and a fragment shader.
    pub fn program(&self, vertex: &str, fragment: &str) -> Verdict<Program> {
        let program = self.create_program()?;
        self.add_stage(program, glow::VERTEX_SHADER, vertex)?;
        self.add_stage(program, glow::FRAGMENT_SHADER, fragment)?;
        self.link(program)
    }

    /// Links a program whose stages were added.
    pub fn link(&self, program: Program) -> Verdict<Program> {
        self.link_program(program);
        // SAFETY: `program` is a name; the status is returned by value.
        let linked = unsafe { self.0.get_program_link_status(program) };
        if linked {
            return Ok(program);
        }
        // SAFETY: as above; glow sizes the log.
        Err(Stop::failed(format!("link: {}", unsafe { self.0.get_program_info_log(program) })))
    }

    /// Compiles a shader and attaches it.
    pub fn add_stage(&self, program: Program, stage: u32, source: &str) -> Verdict {
        // SAFETY: the source is passed with its length; the names are GL's own.
        unsafe {
            let shader = self.0.create_shader(stage)?;
            self.0.shader_source(shader, source);
            self.0.compile_shader(shader);
            if !self.0.get_shader_compile_status(shader) {
                return Err(Stop::failed(format!("compile: {}", self.0.get_shader_info_log(shader))));
            }
            self.0.attach_shader(program, shader);
            self.0.delete_shader(shader);
        }
        Ok(())
    }

    /// The location of a uniform; none if the program does not use it.
    pub fn at(&self, program: Program, name: &str) -> Option<UniformLocation> {
        self.get_uniform_location(program, name)
    }

    /// A new buffer with contents, left bound to `target`.
    pub fn buffer(&self, target: u32, data: &[u8]) -> Verdict<Buffer> {
        let buffer = self.create_buffer()?;
        self.bind_buffer(target, Some(buffer));
        self.buffer_data_u8_slice(target, data, glow::STATIC_DRAW);
        Ok(buffer)
    }

    /// Points a vertex attribute of floats at the bound array buffer.
    pub fn attribute(&self, index: u32, size: i32, stride: i32, offset: i32) {
        self.enable_vertex_attrib_array(index);
        self.vertex_attrib_pointer_f32(index, size, glow::FLOAT, false, stride, offset);
    }

    /// Sets the filters and clamps the edges of the bound 2D texture.
    pub fn filter(&self, minify: u32, magnify: u32) {
        let parameters = [
            (glow::TEXTURE_MIN_FILTER, minify),
            (glow::TEXTURE_MAG_FILTER, magnify),
            (glow::TEXTURE_WRAP_S, glow::CLAMP_TO_EDGE),
            (glow::TEXTURE_WRAP_T, glow::CLAMP_TO_EDGE),
        ];
        for (name, value) in parameters {
            self.tex_parameter_i32(glow::TEXTURE_2D, name, value.cast_signed());
        }
    }

    /// A new RGBA8 texture with immutable storage and nearest filtering, left bound.
    pub fn texture(&self, levels: i32, width: i32, height: i32) -> Verdict<Texture> {
        let texture = self.create_texture()?;
        self.bind_texture(glow::TEXTURE_2D, Some(texture));
        self.tex_storage_2d(glow::TEXTURE_2D, levels, glow::RGBA8, width, height);
        self.filter(glow::NEAREST, glow::NEAREST);
        Ok(texture)
    }

    /// glTexImage2D from client memory.
    pub fn define_texels(&self, internal: u32, size: (i32, i32), layout: Layout, data: &[u8]) {
        let region = Region::size(size.0, size.1);
        assert!(data.len() >= layout.bytes(region), "too few texels");
        self.pixel_store_i32(glow::UNPACK_ALIGNMENT, layout.alignment);
        let texels = PixelUnpackData::Slice(Some(data));
        let (format, kind) = (layout.format, layout.kind);
        // SAFETY: the slice holds all that GL reads: its length was checked against size and alignment.
        unsafe {
            self.0.tex_image_2d(
                glow::TEXTURE_2D,
                0,
                internal.cast_signed(),
                size.0,
                size.1,
                0,
                format,
                kind,
                texels,
            );
        }
    }

    /// glTexSubImage2D from client memory.
    pub fn upload(&self, level: i32, region: Region, layout: Layout, data: &[u8]) {
        assert!(data.len() >= layout.bytes(region), "too few texels");
        self.pixel_store_i32(glow::UNPACK_ALIGNMENT, layout.alignment);
        self.sub_image(level, region, layout, PixelUnpackData::Slice(Some(data)));
    }

    /// glTexSubImage2D from the bound pixel unpack buffer.
    pub fn upload_from_buffer(&self, level: i32, region: Region, layout: Layout, offset: u32) {
        self.pixel_store_i32(glow::UNPACK_ALIGNMENT, layout.alignment);
        self.sub_image(level, region, layout, PixelUnpackData::BufferOffset(offset));
    }

    fn sub_image(&self, level: i32, region: Region, layout: Layout, texels: PixelUnpackData<'_>) {
        let Region { x, y, width, height } = region;
        let (format, kind) = (layout.format, layout.kind);
        // SAFETY: a slice was checked for length by the caller; an offset is checked by GL.
        unsafe {
            self.0.tex_sub_image_2d(glow::TEXTURE_2D, level, x, y, width, height, format, kind, texels);
        }
    }

    /// glTexSubImage3D of one whole RGBA8 layer.
    pub fn upload_layer(&self, target: u32, layer: i32, size: (i32, i32), data: &[u8]) {
        let layout = Layout::RGBA8;
        assert!(data.len() >= layout.bytes(Region::size(size.0, size.1)), "too few texels");
        let texels = PixelUnpackData::Slice(Some(data));
        let (format, kind) = (layout.format, layout.kind);
        // SAFETY: the slice's length was checked.
        unsafe { self.0.tex_sub_image_3d(target, 0, 0, 0, layer, size.0, size.1, 1, format, kind, texels) }
    }

    /// glReadPixels into client memory.
    pub fn read(&self, region: Region, layout: Layout) -> Vec<u8> {
        let mut bytes = vec![0; layout.bytes(region)];
        self.read_into(region, layout, &mut bytes);
        bytes
    }

    /// glReadPixels into memory that the caller keeps.
    pub fn read_into(&self, region: Region, layout: Layout, bytes: &mut [u8]) {
        assert!(bytes.len() >= layout.bytes(region), "too little room");
        self.pixel_store_i32(glow::PACK_ALIGNMENT, layout.alignment);
        self.read_pixels(region, layout, PixelPackData::Slice(Some(bytes)));
    }

    /// glReadPixels into the bound pixel pack buffer.
    pub fn read_to_buffer(&self, region: Region, layout: Layout, offset: u32) {
        self.pixel_store_i32(glow::PACK_ALIGNMENT, layout.alignment);
        self.read_pixels(region, layout, PixelPackData::BufferOffset(offset));
    }

    fn read_pixels(&self, region: Region, layout: Layout, to: PixelPackData<'_>) {
        let Region { x, y, width, height } = region;
        // SAFETY: a slice was checked for length by the caller; an offset is checked by GL.
        unsafe { self.0.read_pixels(x, y, width, height, layout.format, layout.kind, to) }
    }

    /// Maps a range of the bound buffer for as long as `work` takes.
    pub fn map<T>(
        &self,
        target: u32,
        offset: i32,
        size: i32,
        access: u32,
        work: impl FnOnce(&mut [u8]) -> T,
    ) -> Verdict<T> {
        // SAFETY: GL answers with null or with `size` bytes that are ours until the unmap below.
        let memory = unsafe { self.0.map_buffer_range(target, offset, size, access) };
        if memory.is_null() {
            return Err(Stop::failed(format!("glMapBufferRange({size} at {offset}, {access:#x}) is null")));
        }
        // SAFETY: as above; the slice does not outlive the mapping.
        let answer = work(unsafe { std::slice::from_raw_parts_mut(memory, length(size)) });
        // SAFETY: the buffer is mapped.
        unsafe { self.0.unmap_buffer(target) };
        Ok(answer)
    }
}

/// A GL size as a length of memory; nothing if negative.
pub fn length(size: i32) -> usize {
    usize::try_from(size).unwrap_or(0)
}

/// A length of memory as a GL size; the largest there is if it does not fit.
pub fn size(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

/// The bytes of floats, as GL reads them.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// The floats in bytes that GL wrote.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| f32::from_ne_bytes(*chunk)).collect()
}
